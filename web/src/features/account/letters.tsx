import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { quote } from "@/kit/filter";
import { groupBy } from "@/kit/group-by";
import { MorePages } from "@/kit/more-pages";
import { pagesQuery, recordsOf, useCatalogue, useSession } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";

type Mail = Schema<"workspace.MailRecord"> & RecordJson;

const PAGE = 30;

/** What was written with a customer, one line for each conversation, as far as the owners of the mailboxes share it. */
export function Letters({ account, to }: { account: string; to: { address?: string }[] }) {
  const { t } = useText();
  const session = useSession();
  const messages = useCatalogue().find("mailMessages");
  const pages = useInfiniteQuery(
    pagesQuery("mailRecords", {
      filter: `account = ${quote(account)}`,
      orderBy: "occurTime desc",
      pageSize: PAGE,
    }),
  );
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("account.mail")}</h2>
        <span className="grow" />
        {messages && may(session, messages.permissions.create) && (
          <Link className="button" to="/mailMessages/new" state={{ account, to: to.slice(0, 1) }}>
            {t("mail.write")}
          </Link>
        )}
      </div>
      <div className="card-body">
        <Loaded query={pages}>
          {() => {
            const threads = Object.values(groupBy(recordsOf(pages) as Mail[], subjectOf));
            if (threads.length === 0) return <Empty title={t("mail.none")} />;
            return (
              <ul className="stack">
                {threads.map((thread) => (
                  <li key={thread[0]?.name}>
                    <details className="nested-rows">
                      <summary>
                        {thread[0]?.displayName || t("mail.noSubject")}
                        {thread.length > 1 && <span className="tag tag-calm">{thread.length}</span>}
                      </summary>
                      <ul className="stack">
                        {thread.map((mail) => (
                          <Letter key={mail.name} mail={mail} />
                        ))}
                      </ul>
                    </details>
                  </li>
                ))}
              </ul>
            );
          }}
        </Loaded>
        <MorePages pages={pages} />
      </div>
    </section>
  );
}

function Letter({ mail }: { mail: Mail }) {
  const { t, language, comma } = useText();
  const partyOf = (party: { displayName?: string; address?: string } | undefined) =>
    party?.displayName || party?.address || "";
  return (
    <li>
      <p className="row">
        <strong>{partyOf(mail.sender)}</strong>
        <span className="faint">→ {(mail.people ?? []).map(partyOf).join(comma)}</span>
        <span className="grow" />
        <time className="faint" dateTime={mail.occurTime}>
          {formatRelative(mail.occurTime ?? "", language)}
        </time>
      </p>
      {mail.body && <p className="prose">{mail.body}</p>}
      {mail.message && <Link to={`/${mail.message}`}>{t("mail.conversation")}</Link>}
    </li>
  );
}

const PREFIX = /^\s*(re|fw|fwd|aw|回复|答复|转发)\s*[:：]\s*/i;

/** What a conversation is about, whoever answered it; mails whose subject is not shared stand by themselves. */
function subjectOf(mail: Mail): string {
  let subject = mail.displayName ?? "";
  while (PREFIX.test(subject)) subject = subject.replace(PREFIX, "");
  return subject || mail.name;
}
