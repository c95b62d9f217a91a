import type { ReactNode } from "react";
import { Link } from "react-router";
import { useText } from "@/i18n";
import { ErrorBoundary, ErrorNote, Skeleton } from "./states";

interface Props<T> {
  title: string;
  /** Where "all" leads. */
  all?: string;
  count?: ReactNode;
  wide?: boolean;
  query: {
    isPending: boolean;
    isError: boolean;
    error: unknown;
    data: T | undefined;
    refetch: () => unknown;
  };
  children: (data: T) => ReactNode;
}

/** A part of the home page with its own loading, empty and error; the others go on without it. */
export function Tile<T>({ title, all, count, wide = false, query, children }: Props<T>) {
  const { t } = useText();
  return (
    <section className={`card tile ${wide ? "tile-wide" : ""}`} aria-label={title}>
      <div className="card-head">
        <h2>{title}</h2>
        {count}
        <span className="grow" />
        {all && <Link to={all}>{t("home.all")}</Link>}
      </div>
      <div className="card-body">
        <ErrorBoundary>
          {query.isError ? (
            <ErrorNote error={query.error} onRetry={() => void query.refetch()} />
          ) : query.isPending || query.data === undefined ? (
            <Skeleton lines={5} />
          ) : (
            children(query.data)
          )}
        </ErrorBoundary>
      </div>
    </section>
  );
}
