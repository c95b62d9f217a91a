import { useEffect, type ReactNode } from "react";
import { Link } from "react-router";
import { useText } from "@/i18n";

interface Props {
  title: string;
  crumbs?: { label: string; path: string }[];
  actions?: ReactNode;
  note?: ReactNode;
  tags?: ReactNode;
  /** The page fills the window and scrolls inside its parts. */
  fill?: boolean;
  children: ReactNode;
}

/** The head that every page shares: where one is, one h1, what one can do. */
export function Page({ title, crumbs = [], actions, note, tags, fill = false, children }: Props) {
  const { t } = useText();
  useEffect(() => {
    document.title = `${title} · ${t("app.name")}`;
  }, [title, t]);
  return (
    <div className={fill ? "main-fill" : ""}>
      <div className="page-head">
        <div className="page-title">
          {crumbs.length > 0 && (
            <nav className="crumbs" aria-label={t("menu.crumbs")}>
              {crumbs.map((crumb) => (
                <span key={crumb.path} className="crumb">
                  <Link to={crumb.path}>{crumb.label}</Link>
                  <span aria-hidden="true">/</span>
                </span>
              ))}
            </nav>
          )}
          <div className="title-line">
            <h1>{title}</h1>
            {tags}
          </div>
          {note}
        </div>
        {actions && <div className="row page-actions">{actions}</div>}
      </div>
      {children}
    </div>
  );
}
