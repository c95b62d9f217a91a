import { CloseOutlined } from "@ant-design/icons";
import { useEffect, useSyncExternalStore } from "react";
import { useText } from "@/i18n";

export interface Toast {
  id: number;
  text: string;
  tone: "good" | "bad" | "info";
  detail?: string;
  action?: { label: string; run: () => void };
}

let toasts: readonly Toast[] = [];
let last = 0;
const watchers = new Set<() => void>();

/** Tells the person what happened, on screen and to screen readers. */
export function tell(
  text: string,
  tone: Toast["tone"] = "good",
  more: Pick<Toast, "detail" | "action"> = {},
): void {
  // Ten failing requests say the same once.
  set([...toasts.filter((toast) => toast.text !== text), { id: ++last, text, tone, ...more }].slice(-4));
}

function set(next: readonly Toast[]) {
  toasts = next;
  watchers.forEach((watcher) => watcher());
}

const watch = (watcher: () => void) => {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
};

const SHOWN_MS = { good: 5_000, info: 10_000, bad: 12_000 };

export function Toasts() {
  const shown = useSyncExternalStore(watch, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((toast) => (
        <ToastCard key={toast.id} toast={toast} />
      ))}
    </div>
  );
}

function ToastCard({ toast }: { toast: Toast }) {
  const { t } = useText();
  const close = () => set(toasts.filter((other) => other.id !== toast.id));
  useEffect(() => {
    const timer = setTimeout(
      () => set(toasts.filter((other) => other.id !== toast.id)),
      SHOWN_MS[toast.tone],
    );
    return () => clearTimeout(timer);
  }, [toast]);
  return (
    <div className={`toast toast-${toast.tone}`}>
      <div className="toast-text">
        {toast.text}
        {toast.detail && <small>{toast.detail}</small>}
      </div>
      {toast.action && (
        <button
          type="button"
          className="link"
          onClick={() => {
            toast.action?.run();
            close();
          }}
        >
          {toast.action.label}
        </button>
      )}
      <button type="button" className="icon-button" aria-label={t("action.close")} onClick={close}>
        <CloseOutlined />
      </button>
    </div>
  );
}
