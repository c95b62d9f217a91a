import { useText } from "@/i18n";

interface Pages {
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => unknown;
}

/** The button that brings the next page of a list; nothing where there is none. */
export function MorePages({ pages, className = "link" }: { pages: Pages; className?: string }) {
  const { t } = useText();
  if (!pages.hasNextPage) return null;
  return (
    <button
      type="button"
      className={className}
      disabled={pages.isFetchingNextPage}
      onClick={() => void pages.fetchNextPage()}
    >
      {t("list.more")}
    </button>
  );
}
