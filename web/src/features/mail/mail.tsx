import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "react-router";
import type { Page as ListPage, RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { formatRelative } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { allOf, quote } from "@/kit/filter";
import { groupBy } from "@/kit/group-by";
import { MorePages } from "@/kit/more-pages";
import { Page } from "@/kit/page";
import {
  aggregateQuery,
  firstPageQuery,
  pagesQuery,
  recordQuery,
  recordsOf,
  titleOf,
  useResource,
  useSession,
} from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Segmented } from "@/kit/segmented";
import { useSettled } from "@/kit/settled";
import { Empty, Loaded } from "@/kit/states";
import { VerbBar } from "@/kit/verbs";
import { useState } from "react";
import { Conversation } from "./conversation";
import { Sharing } from "./sharing";

export type Mail = Schema<"workspace.MailMessage"> & RecordJson;

const PAGE = 30;
const BOXES = 50;
const FOLDERS: Record<string, string> = {
  inbox: 'direction = "INBOUND"',
  toFile: 'filing = "AMBIGUOUS"',
  drafts: 'state = "DRAFT"',
  sent: 'direction = "OUTBOUND" AND NOT state = "DRAFT"',
  failed: 'state = "FAILED" OR state = "BOUNCED"',
};

/** The mailboxes that one writes and reads in: folders, conversations, and the one that is read. */
export function MailPage({ name }: { name?: string }) {
  const given = useQuery({ ...recordQuery(name ?? ""), enabled: name !== undefined });
  const boxes = useQuery(firstPageQuery("mailAccounts", { orderBy: "displayName", pageSize: BOXES }));
  const { t } = useText();
  if (name === undefined)
    return <Loaded query={boxes}>{(page: ListPage) => <Boxes boxes={page.records} />}</Loaded>;
  return (
    <Loaded query={given}>
      {(mail: RecordJson) => (
        <Page title={t("page.mail")} crumbs={[{ label: t("page.mail"), path: "/mail" }]}>
          <Conversation mail={mail as Mail} />
        </Page>
      )}
    </Loaded>
  );
}

/** One mail by its own address. */
export const MailRecordPage = ({ name }: { name: string }) => <MailPage name={name} />;

function Boxes({ boxes }: { boxes: RecordJson[] }) {
  const { t, noun } = useText();
  const session = useSession();
  const resource = useResource("mailAccounts");
  const [params] = useAddress();
  const box = boxes.find(({ name }) => name === params.get("box")) ?? boxes[0];
  if (box) return <Box key={box.name} box={box} boxes={boxes} />;
  return (
    <Page title={t("page.mail")}>
      <section className="card">
        <Empty title={t("mail.noBox")} text={t("mail.noBoxText")}>
          {may(session, resource.permissions.create) && (
            <Link className="button button-primary" to="/mailAccounts/new">
              {t("form.newTitle", { what: noun(resource.label) })}
            </Link>
          )}
        </Empty>
      </section>
    </Page>
  );
}

function Box({ box, boxes }: { box: RecordJson; boxes: RecordJson[] }) {
  const { t, language } = useText();
  const navigate = useNavigate();
  const accounts = useResource("mailAccounts");
  const [params, go] = useAddress();
  const asked = params.get("folder") ?? "";
  const folder = Object.hasOwn(FOLDERS, asked) ? asked : "inbox";
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const inBox = `mailbox = ${quote(box.name)}`;
  const pages = useInfiniteQuery({
    ...pagesQuery("mailMessages", {
      q,
      filter: allOf(inBox, FOLDERS[folder] ?? ""),
      orderBy: "occurTime desc",
      pageSize: PAGE,
    }),
    placeholderData: (before) => before,
  });
  const counts = {
    inbox: useCount(allOf(inBox, FOLDERS["inbox"] ?? "", "read = false")),
    toFile: useCount(allOf(inBox, FOLDERS["toFile"] ?? "")),
    drafts: useCount(allOf(inBox, FOLDERS["drafts"] ?? "")),
  } as Record<string, string>;
  const open = params.get("mail") ?? "";
  const opened = useQuery({ ...recordQuery(open), enabled: open !== "" });
  const state = accounts.fields.find(({ name }) => name === "state");

  return (
    <Page
      title={t("page.mail")}
      tags={state && <FieldValue field={state} value={box["state"]} />}
      note={
        <div className="row mail-box">
          <label className="row">
            <span className="visually-hidden">{t("mail.box")}</span>
            <select
              className="input"
              value={box.name}
              onChange={(event) => go({ box: event.target.value, mail: "" })}
            >
              {boxes.map((one) => (
                <option key={one.name} value={one.name}>
                  {titleOf(one, accounts, language)} · {String(one["address"])}
                </option>
              ))}
            </select>
          </label>
          <Sharing box={box} />
        </div>
      }
      actions={
        <>
          <button
            type="button"
            className="button button-primary"
            onClick={() => void navigate("/mailMessages/new", { state: { mailbox: box.name } })}
          >
            {t("mail.write")}
          </button>
          <VerbBar
            second
            resource={accounts}
            record={box}
            extra={[
              { key: "edit", label: t("mail.settings"), run: () => void navigate(`/${box.name}`) },
              { key: "new", label: t("mail.newBox"), run: () => void navigate("/mailAccounts/new") },
              { key: "templates", label: t("mail.templates"), run: () => void navigate("/mailTemplates") },
            ]}
          />
        </>
      }
    >
      {Boolean(box["problem"]) && (
        <p className="note note-bad" role="status">
          {t("mail.failing")} {String(box["problem"])}
        </p>
      )}
      <div className="list-bar">
        <Segmented
          label={t("mail.folders")}
          value={folder}
          options={Object.keys(FOLDERS).map((key) => ({
            key,
            title: (
              <>
                {t(`mail.folder.${key}`)} {Number(counts[key] ?? 0) > 0 && counts[key]}
              </>
            ),
          }))}
          onChange={(key) => go({ folder: key === "inbox" ? "" : key, mail: "" })}
        />
        <span className="grow" />
        <SearchField label={t("list.search")} value={typed} onChange={setTyped} />
      </div>
      <div className="split mail-split" data-open={open || undefined}>
        <section className="card mail-list" aria-label={t(`mail.folder.${folder}`)}>
          <Loaded query={pages} lines={8}>
            {() => <Threads mails={recordsOf(pages) as Mail[]} open={open} onOpen={(mail) => go({ mail })} />}
          </Loaded>
          <MorePages pages={pages} className="link inbox-more" />
        </section>
        <section className="mail-pane" aria-label={t("mail.conversation")}>
          {open ? (
            <>
              <button type="button" className="link mail-back" onClick={() => go({ mail: "" })}>
                {t("mail.back")}
              </button>
              <Loaded query={opened} lines={8}>
                {(mail: RecordJson) => <Conversation key={String(mail["thread"])} mail={mail as Mail} />}
              </Loaded>
            </>
          ) : (
            <div className="card">
              <Empty title={t("mail.choose")} />
            </div>
          )}
        </section>
      </div>
    </Page>
  );
}

const useCount = (filter: string) =>
  useQuery(aggregateQuery("mailMessages", { filter })).data?.[0]?.count ?? "0";

interface ThreadsProps {
  mails: Mail[];
  open: string;
  onOpen: (mail: string) => void;
}

/** A conversation is one line, which says what its newest mail in this folder says. */
function Threads({ mails, open, onOpen }: ThreadsProps) {
  const { t, language, comma } = useText();
  const { fields } = useResource("mailMessages");
  const threads = Object.values(groupBy(mails, (mail) => mail.thread ?? mail.name));
  const special = fields.filter(({ name }) => name === "state" || name === "filing");
  if (threads.length === 0) return <Empty title={t("mail.none")} />;
  return (
    <ul className="inbox">
      {threads.map((thread) => {
        const [mail] = thread;
        if (!mail) return null;
        const unread = thread.some(({ read, direction }) => !read && direction === "INBOUND");
        return (
          <li key={mail.name} className={unread ? "inbox-unread" : ""}>
            <button
              type="button"
              className="inbox-pick"
              aria-pressed={thread.some(({ name }) => name === open)}
              onClick={() => onOpen(mail.name)}
            >
              <span className="row">
                <span className="grow cut">{peopleOf(mail).join(comma) || t("mail.nobody")}</span>
                {thread.length > 1 && <span className="tag tag-calm">{thread.length}</span>}
                <time className="faint" dateTime={mail.occurTime}>
                  {formatRelative(mail.occurTime ?? "", language)}
                </time>
              </span>
              <span className="row">
                <strong className="grow cut">
                  {unread && <span className="visually-hidden">{t("mail.unread")} </span>}
                  {mail.displayName || t("mail.noSubject")}
                </strong>
                {special
                  .filter(({ name }) => TOLD.has(String(mail[name])))
                  .map((field) => (
                    <FieldValue
                      key={field.name}
                      field={{ ...field, name: "state" }}
                      value={mail[field.name]}
                    />
                  ))}
              </span>
              <span className="faint cut">{mail.preview}</span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}

/** What a line of the list says beside the rest, because somebody has to do something about it. */
const TOLD = new Set(["AMBIGUOUS", "DRAFT", "FAILED", "BOUNCED", "QUEUED", "SENDING"]);

const peopleOf = (mail: Mail) =>
  (mail.direction === "INBOUND" ? [mail.sender] : (mail.to ?? []))
    .map((party) => party?.displayName || party?.address)
    .filter(Boolean);
