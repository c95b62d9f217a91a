import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { Mentions } from "antd";
import { useEffect, useState, type ReactNode } from "react";
import { ApiError } from "@/api/errors";
import { act, create, remove, update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatRelative } from "./dates";
import { Reference } from "./field-value";
import { quote } from "./filter";
import { MorePages } from "./more-pages";
import { firstPageQuery, pagesQuery, recordsOf, useResource, useSession } from "./queries";
import { Empty, ErrorNote, Skeleton } from "./states";
import { tell } from "./toasts";
import { messageOf } from "./verbs";

const PAGE = 50;
const SETTLE_MS = 200;

/** An option of those who may be mentioned. */
interface Person {
  person: string;
}

interface Props {
  name: string;
  /** What else may be done with a comment, such as taking it as the answer. */
  more?: (comment: RecordJson) => ReactNode;
  closed?: boolean;
}

/** What people say about a record, the oldest first; "@" names somebody, who is told. */
export function Comments({ name, more, closed = false }: Props) {
  const { t } = useText();
  const session = useSession();
  const resource = useResource("comments");
  const [answering, setAnswering] = useState<RecordJson>();
  const pages = useInfiniteQuery(
    pagesQuery("comments", { filter: `record = ${quote(name)}`, orderBy: "createTime", pageSize: PAGE }),
  );
  const comments = recordsOf(pages);
  return (
    <section className="card" aria-label={t("comments.title")}>
      <div className="card-body stack">
        {pages.isError ? (
          <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
        ) : pages.isPending ? (
          <Skeleton />
        ) : comments.length === 0 ? (
          <Empty title={t("comments.none")} text={t("comments.noneText")} />
        ) : (
          <ol className="comments">
            {comments.map((comment) => (
              <Comment
                key={comment.name}
                comment={comment}
                before={comments.find((other) => other.name === comment["replyTo"])}
                onAnswer={closed ? undefined : setAnswering}
              >
                {more?.(comment)}
              </Comment>
            ))}
          </ol>
        )}
        <MorePages pages={pages} className="link" />
        {!closed && may(session, resource.permissions.create) && (
          <Writer
            key={answering?.name ?? ""}
            record={name}
            replyTo={answering}
            onDone={() => setAnswering(undefined)}
          />
        )}
      </div>
    </section>
  );
}

function Comment({
  comment,
  before,
  onAnswer,
  children,
}: {
  comment: RecordJson;
  before: RecordJson | undefined;
  onAnswer: ((comment: RecordJson) => void) | undefined;
  children: ReactNode;
}) {
  const { t, language } = useText();
  const client = useQueryClient();
  const session = useSession();
  const [editing, setEditing] = useState(false);
  const [hiding, setHiding] = useState<string>();
  const mine = comment["owner"] === session.employee;
  const hidden = String(comment["hideReason"] ?? "");
  const hide = async () => {
    try {
      await act(comment.name, "hide", { reason: hiding ?? "" }, comment.etag);
      setHiding(undefined);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  const drop = async () => {
    try {
      await remove(comment.name, comment.etag);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
    void client.invalidateQueries({ queryKey: ["list", "comments"] });
  };
  return (
    <li>
      <p className="comment-head">
        <strong>
          <Reference name={String(comment["owner"] ?? "")} />
        </strong>{" "}
        <span className="faint">{formatRelative(String(comment["createTime"]), language)}</span>
        {Boolean(comment["editTime"]) && <span className="faint"> · {t("comments.edited")}</span>}
      </p>
      {before && <blockquote className="faint cut">{String(before["body"])}</blockquote>}
      {editing ? (
        <Writer record={String(comment["record"])} changes={comment} onDone={() => setEditing(false)} />
      ) : (
        <p className={hidden ? "faint" : "comment-body"}>
          {hidden ? t("comments.hidden", { reason: hidden }) : String(comment["body"])}
        </p>
      )}
      {hiding !== undefined && (
        <form
          className="row"
          onSubmit={(event) => {
            event.preventDefault();
            void hide();
          }}
        >
          <input
            aria-label={t("comments.hideReason")}
            placeholder={t("comments.hideReason")}
            value={hiding}
            onChange={(event) => setHiding(event.target.value)}
          />
          <button type="submit" className="button">
            {t("comments.hide")}
          </button>
        </form>
      )}
      <p className="comment-acts">
        {onAnswer && (
          <button type="button" className="link" onClick={() => onAnswer(comment)}>
            {t("comments.reply")}
          </button>
        )}
        {may(session, "workspace.posts.moderate") && !hidden && hiding === undefined && (
          <button type="button" className="link" onClick={() => setHiding("")}>
            {t("comments.hide")}
          </button>
        )}
        {mine && !editing && (
          <>
            {!hidden && (
              <button type="button" className="link" onClick={() => setEditing(true)}>
                {t("action.edit")}
              </button>
            )}
            <button type="button" className="link" onClick={() => void drop()}>
              {t("action.delete")}
            </button>
          </>
        )}
        {children}
      </p>
    </li>
  );
}

/** Writes a comment, or another text for one. Whom the text names and who may not read the record is asked about. */
function Writer({
  record,
  replyTo,
  changes,
  onDone,
}: {
  record: string;
  replyTo?: RecordJson | undefined;
  changes?: RecordJson;
  onDone: () => void;
}) {
  const { t } = useText();
  const [text, setText] = useState(String(changes?.["body"] ?? ""));
  const [people, setPeople] = useState<Record<string, string>>({});
  const [typed, setTyped] = useState<string>();
  const [q, setQ] = useState("");
  const [busy, setBusy] = useState(false);
  const [warning, setWarning] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed?.trim() ?? ""), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const found = useQuery({
    ...firstPageQuery("employees", { q, pageSize: 8, filter: 'state = "ACTIVE"' }),
    enabled: typed !== undefined,
    placeholderData: (before) => before,
  });
  const send = async (acceptUnseen: boolean) => {
    const kept = (changes?.["mentions"] as string[] | undefined) ?? [];
    const named = Object.entries(people)
      .filter(([, label]) => text.includes(`@${label}`))
      .map(([name]) => name);
    const body = { body: text.trim(), mentions: [...new Set([...kept, ...named])], acceptUnseen };
    setBusy(true);
    try {
      if (changes) await update(changes.name, body, changes.etag);
      else await create("comments", { ...body, record, ...(replyTo ? { replyTo: replyTo.name } : {}) });
    } catch (error) {
      if (error instanceof ApiError && error.reason === "MENTION_OUTSIDE_AUDIENCE") setWarning(error.message);
      else tell(messageOf(error), "bad");
      return;
    } finally {
      setBusy(false);
    }
    setText("");
    setWarning("");
    onDone();
  };
  return (
    <div className="stack comment-writer">
      {replyTo && (
        <p className="faint cut">
          {t("comments.replyingTo", { text: String(replyTo["body"]) })}{" "}
          <button type="button" className="link" onClick={onDone}>
            {t("action.cancel")}
          </button>
        </p>
      )}
      <Mentions
        value={text}
        rows={3}
        maxLength={5000}
        aria-label={t("comments.text")}
        placeholder={t("comments.hint")}
        filterOption={false}
        loading={found.isFetching}
        notFoundContent={found.isFetching ? t("state.loading") : t("search.none")}
        onChange={(next) => {
          setText(next);
          setWarning("");
        }}
        onSearch={setTyped}
        onSelect={(option) =>
          setPeople((before) => ({ ...before, [(option as Person).person]: String(option.value) }))
        }
        options={(found.data?.records ?? []).map((person) => ({
          key: person.name,
          // The list gives options keys of its own.
          person: person.name,
          value: String(person["displayName"]),
          label: String(person["displayName"]),
        }))}
      />
      {warning && (
        <p className="banner" role="alert">
          {warning}{" "}
          <button type="button" className="link" onClick={() => void send(true)}>
            {t("comments.allTheSame")}
          </button>
        </p>
      )}
      <div>
        <button
          type="button"
          className="button primary"
          disabled={busy || text.trim() === ""}
          onClick={() => void send(false)}
        >
          {changes ? t("action.save") : t("comments.send")}
        </button>{" "}
        {changes && (
          <button type="button" className="button" onClick={onDone}>
            {t("action.cancel")}
          </button>
        )}
      </div>
    </div>
  );
}
