import { useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";
import type { Schema } from "@/api/schema";
import { request } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { LanguageSwitch } from "@/kit/language-switch";
import { ErrorNote, Skeleton } from "@/kit/states";
import { Form } from "./form";

/** What a visitor fills in, without signing in; what is sent becomes a lead. */
export function WebFormPage() {
  const { t } = useText();
  const { id = "" } = useParams();
  const view = useQuery({
    queryKey: ["web-form", id],
    queryFn: async () =>
      (await (await request(`/v1/forms/${id}:view`)).json()) as Schema<"marketing.ViewFormResponse">,
    retry: false,
    staleTime: Infinity,
  });
  return (
    <main className="public">
      <div className="public-language">
        <LanguageSwitch />
      </div>
      {view.isError ? (
        <section className="card public-card">
          <h1>{t("webForm.away")}</h1>
          {view.error instanceof ApiError && view.error.status < 500 && view.error.status > 0 ? (
            <p>{t("webForm.awayText")}</p>
          ) : (
            <ErrorNote error={view.error} onRetry={() => void view.refetch()} />
          )}
        </section>
      ) : view.isPending ? (
        <Skeleton lines={8} />
      ) : (
        <Form id={id} view={view.data} />
      )}
    </main>
  );
}
