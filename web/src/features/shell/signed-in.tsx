import { useEffect } from "react";
import { sessionNews } from "@/api/session";
import { useText } from "@/i18n";

/** Where a sign-in in a second window ends: it tells the first window and closes. */
export function SignedInPage() {
  const { t } = useText();
  useEffect(() => {
    sessionNews.postMessage("signed-in");
    window.close();
  }, []);
  return (
    <main className="main">
      <h1>{t("session.signedIn")}</h1>
      <p>{t("session.closeWindow")}</p>
    </main>
  );
}
