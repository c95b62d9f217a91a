import { ConfigProvider, type ThemeConfig } from "antd";
import type { Locale } from "antd/es/locale";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { RouterProvider } from "react-router";
import { context } from "@/api/client";
import { ApiError } from "@/api/errors";
import { sessionNews, sessionQuery } from "@/api/session";
import { wipe, wipes } from "@/api/wipe";
import { followAccount, useText, type Language } from "@/i18n";
import { Toasts } from "@/kit/toasts";
import { useTheme } from "@/kit/theme";
import { takeWritten } from "@/kit/written";
import { nonce } from "./nonce";
import { router } from "./routes";

const RETRIES = 2;

const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 15_000,
      // What the server refused it refuses again; only an unreachable or busy one is worth another try.
      retry: (count, error) =>
        count < RETRIES && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500),
      throwOnError: false,
    },
  },
});

// How many answers are awaited, for whoever drives the page and must not act on what is about to change.
client.getQueryCache().subscribe(() => {
  document.documentElement.dataset["fetching"] = String(client.isFetching());
});

context.onSignedOut = (why) => {
  if (!wipes(why.reason)) {
    client.setQueryData(["session-ended"], true);
    return;
  }
  // Nothing stays: neither on the device nor on the page.
  client.clear();
  void wipe().finally(() => {
    sessionNews.postMessage("signed-out");
    location.replace(`${import.meta.env.BASE_URL}?ended=${why.reason}`);
  });
};
context.onWritten = (collection, records) => takeWritten(client, collection, records);
sessionNews.onmessage = (event) => {
  if (event.data === "signed-out") client.setQueryData(sessionQuery.queryKey, null);
  if (event.data === "signed-in") {
    client.setQueryData(["session-ended"], false);
    void client.invalidateQueries();
  }
};

const antdLocales: Record<Language, () => Promise<{ default: Locale }>> = {
  "zh-CN": () => import("antd/es/locale/zh_CN"),
  en: () => import("antd/es/locale/en_GB"),
};

export function App() {
  const { language } = useText();
  const theme = useTheme();
  const [locale, setLocale] = useState<Locale>();

  useEffect(() => {
    void antdLocales[language]().then((loaded) => setLocale(loaded.default));
    void import("dayjs/locale/zh-cn").then(async () => {
      const { default: dayjs } = await import("dayjs");
      dayjs.locale(language === "en" ? "en" : "zh-cn");
    });
  }, [language]);

  useEffect(
    () =>
      client.getQueryCache().subscribe(({ query, type }) => {
        if (type === "updated" && query.queryKey[0] === "session")
          void followAccount((query.state.data as { locale?: string } | null | undefined)?.locale);
      }),
    [],
  );

  return (
    <ConfigProvider
      theme={theme.antd as ThemeConfig}
      locale={locale}
      csp={nonce ? { nonce } : undefined}
      button={{ autoInsertSpace: false }}
    >
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
        <Toasts />
      </QueryClientProvider>
    </ConfigProvider>
  );
}
