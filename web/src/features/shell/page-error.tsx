import { Link, useRouteError } from "react-router";
import { useText } from "@/i18n";
import { ErrorNote } from "@/kit/states";

/** A page that failed keeps the menu around it where it can. */
export function PageError() {
  const error = useRouteError();
  const { t } = useText();
  return (
    <div className="stack">
      <h1>{t("state.failedTitle")}</h1>
      <ErrorNote error={error} onRetry={() => location.reload()} />
      <Link to="/">{t("menu.home")}</Link>
    </div>
  );
}
