import { Component, useEffect, useState, type ReactNode } from "react";
import { useQueryErrorResetBoundary } from "@tanstack/react-query";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";

/** What went wrong in words, with the request id to hand on and a way to try again. */
export function ErrorNote({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { t } = useText();
  const missing = error instanceof ApiError && error.status === 404;
  const denied = error instanceof ApiError && error.status === 403;
  const text = error instanceof ApiError && error.message ? error.message : t("state.failed");
  return (
    <div className="note note-bad" role="alert">
      <strong>{missing ? t("state.missing") : denied ? t("state.denied") : t("state.failedTitle")}</strong>
      <p>{missing ? t("state.missingText") : text}</p>
      {error instanceof ApiError && error.requestId && (
        <p className="faint">
          {t("state.requestId")} <code>{error.requestId}</code>
        </p>
      )}
      {onRetry && !missing && (
        <button type="button" className="button" onClick={onRetry}>
          {t("action.retry")}
        </button>
      )}
    </div>
  );
}

/** What was refused, in the words of the refusal; nothing where nothing was. */
export function Refused({ children }: { children: ReactNode }) {
  if (!children) return null;
  return (
    <p className="note note-bad" role="alert">
      {children}
    </p>
  );
}

/** Why there is nothing, and the next step. */
export function Empty({ title, text, children }: { title: string; text?: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <svg viewBox="0 0 64 48" aria-hidden="true" width="72">
        <rect x="8" y="10" width="48" height="32" rx="6" className="empty-box" />
        <path d="M8 28h14c1.500 4 5 6 10 6s8.500-2 10-6h14" className="empty-line" />
      </svg>
      <strong>{title}</strong>
      {text && <p>{text}</p>}
      {children && <div className="empty-actions">{children}</div>}
    </div>
  );
}

const PATIENCE_MS = 150;

/** Grey lines in the shape of what will come; nothing at all for the first moment. */
export function Skeleton({ lines = 5 }: { lines?: number }) {
  const { t } = useText();
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setVisible(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div className="skeleton" role="status" aria-label={t("state.loading")}>
      {visible && Array.from({ length: lines }, (_, line) => <span key={line} />)}
    </div>
  );
}

/** As much of a query as one needs to show what it brings. */
export interface Question<T> {
  isPending: boolean;
  isError: boolean;
  error: unknown;
  data: T | undefined;
  refetch: () => unknown;
}

/** What a query brings; what went wrong, or grey lines, where it has brought nothing. */
export function Loaded<T>({
  query,
  lines = 5,
  children,
}: {
  query: Question<T>;
  lines?: number;
  children: (data: T) => ReactNode;
}) {
  if (query.isError) return <ErrorNote error={query.error} onRetry={() => void query.refetch()} />;
  if (query.isPending || query.data === undefined) return <Skeleton lines={lines} />;
  return children(query.data);
}

interface BoundaryProps {
  children: ReactNode;
  /** When it changes, the part gets another chance. */
  resetKey?: string;
  onReset?: () => void;
}

class Boundary extends Component<BoundaryProps, { error: unknown }> {
  override state: { error: unknown } = { error: undefined };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override componentDidUpdate(before: BoundaryProps) {
    if (before.resetKey !== this.props.resetKey && this.state.error !== undefined)
      this.setState({ error: undefined });
  }

  override render() {
    if (this.state.error === undefined) return this.props.children;
    const retry = () => {
      this.props.onReset?.();
      this.setState({ error: undefined });
    };
    return <ErrorNote error={this.state.error} onRetry={retry} />;
  }
}

/** One failing part shows its own error; the rest of the page works. */
export function ErrorBoundary(props: Omit<BoundaryProps, "onReset">) {
  const { reset } = useQueryErrorResetBoundary();
  return <Boundary {...props} onReset={reset} />;
}
