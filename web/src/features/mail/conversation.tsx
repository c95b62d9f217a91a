import { useInfiniteQuery } from "@tanstack/react-query";
import { useText } from "@/i18n";
import { allOf, quote } from "@/kit/filter";
import { MorePages } from "@/kit/more-pages";
import { pagesQuery, recordsOf } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { Letter } from "./letter";
import type { Mail } from "./mail";
import { Draft } from "./writing";

const PAGE = 50;

/** All mails of a thread in the order in which they were written; the chosen one, and what is being written, stand open. */
export function Conversation({ mail }: { mail: Mail }) {
  const { t } = useText();
  const pages = useInfiniteQuery(
    pagesQuery("mailMessages", {
      filter: allOf(`mailbox = ${quote(mail.mailbox ?? "")}`, `thread = ${quote(mail.thread ?? "")}`),
      orderBy: "occurTime",
      pageSize: PAGE,
    }),
  );
  return (
    <div className="stack">
      <h2 className="mail-subject">{mail.displayName || t("mail.noSubject")}</h2>
      <Loaded query={pages}>
        {() =>
          (recordsOf(pages) as Mail[]).map((one) =>
            one.state === "DRAFT" ? (
              <Draft key={one.name} mail={one} />
            ) : (
              <Letter key={one.name} mail={one} chosen={one.name === mail.name} />
            ),
          )
        }
      </Loaded>
      <MorePages pages={pages} />
    </div>
  );
}
