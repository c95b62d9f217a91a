import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { act, update } from "@/api/client";
import { downloadUrl } from "@/api/files";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useAddress } from "@/kit/address";
import { formatInstant } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { gotQuery } from "@/kit/got";
import { useResource, useSession } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf, VerbBar } from "@/kit/verbs";
import type { Mail } from "./mail";
import { Sheet } from "./sheet";

type Text = Schema<"workspace.ReadMailMessageResponse">;

export const textQuery = (name: string) => gotQuery<Text>(["record", name, "text"], `/v1/${name}:read`);

/** In which states a verb can do something. */
const WHEN: Record<string, string[]> = { send: ["DRAFT"], retry: ["FAILED"] };

/** One mail: from whom to whom, its text once it is opened, to which customer it belongs, and the answer. */
export function Letter({ mail, chosen }: { mail: Mail; chosen: boolean }) {
  const { t, language, comma } = useText();
  const session = useSession();
  const resource = useResource("mailMessages");
  const [, go] = useAddress();
  const [open, setOpen] = useState(chosen);
  const text = useQuery({ ...textQuery(mail.name), enabled: open });
  const state = resource.fields.find(({ name }) => name === "state");
  const reply = resource.verbs.find(({ name }) => name === "reply");
  const mayUpdate = may(session, resource.permissions.update);

  // Whoever opens a mail has read it; the first to do so says it, once.
  const told = useRef(false);
  const unread = !mail.read && mail.direction === "INBOUND";
  useEffect(() => {
    if (!open || !unread || !mayUpdate || told.current) return;
    told.current = true;
    void update(mail.name, { read: true }, mail.etag).catch(() => undefined);
  });

  const answer = async (all: boolean) => {
    try {
      const draft = await act(mail.name, "reply", { all }, undefined, crypto.randomUUID());
      go({ mail: draft.name });
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  const others = (mail.to?.length ?? 0) + (mail.cc?.length ?? 0) > 1;
  const people = (parties: Mail["to"]) =>
    (parties ?? []).map(({ displayName, address }) => displayName || address).join(comma);

  return (
    <article className="card letter" aria-label={mail.displayName || t("mail.noSubject")}>
      <header>
        <button
          type="button"
          className="letter-head"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
          title={mail.sender?.address}
        >
          <strong>{mail.sender?.displayName || mail.sender?.address}</strong>
          <span className="faint cut">
            {t("mail.to", { people: people(mail.to) })}
            {(mail.cc?.length ?? 0) > 0 && ` · ${t("mail.cc", { people: people(mail.cc) })}`}
          </span>
          <time className="faint" dateTime={mail.occurTime}>
            {formatInstant(mail.occurTime ?? "", language)}
          </time>
        </button>
        {mail.state !== "RECEIVED" && state && <FieldValue field={state} value={mail.state} />}
      </header>
      {!open && <p className="faint cut letter-preview">{mail.preview}</p>}
      {open && (
        <div className="letter-body stack">
          {mail.problem && <p className="note note-bad">{mail.problem}</p>}
          <Filing mail={mail} />
          <Loaded query={text}>
            {(read: Text) => (
              <>
                {(read.blockedImages ?? 0) > 0 && (
                  <p className="faint">{t("mail.blocked", { count: read.blockedImages })}</p>
                )}
                {read.html ? (
                  <Sheet html={read.html} title={mail.displayName || t("mail.noSubject")} />
                ) : (
                  <p className="prose">{read.text}</p>
                )}
                {!read.html && read.quote && (
                  <details>
                    <summary>{t("mail.quoted")}</summary>
                    <p className="prose faint">{read.quote}</p>
                  </details>
                )}
              </>
            )}
          </Loaded>
          {(mail.files ?? []).length > 0 && (
            <ul className="row" aria-label={t("mail.files")}>
              {(mail.files ?? []).map((file) => (
                <li key={file}>
                  <a className="chip" href={downloadUrl(file)}>
                    <Reference name={file} link={false} />
                  </a>
                </li>
              ))}
            </ul>
          )}
          <div className="row">
            {reply && may(session, reply.permission) && (
              <>
                <button type="button" className="button button-primary" onClick={() => void answer(false)}>
                  {t("mail.reply")}
                </button>
                {others && (
                  <button type="button" className="button" onClick={() => void answer(true)}>
                    {t("mail.replyAll")}
                  </button>
                )}
              </>
            )}
            <VerbBar
              second
              resource={{
                ...resource,
                verbs: resource.verbs.filter(
                  ({ name }) => name !== "reply" && (WHEN[name]?.includes(mail.state ?? "") ?? true),
                ),
              }}
              record={mail}
            />
          </div>
        </div>
      )}
    </article>
  );
}

/** To which customer it belongs; where several have the address, a person says which. */
function Filing({ mail }: { mail: Mail }) {
  const { t } = useText();
  const file = async (account: string) => {
    try {
      await act(mail.name, "file", { account }, mail.etag, crypto.randomUUID());
      tell(t("mail.filed"), "good");
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  if (mail.filing === "FILED" && mail.account)
    return (
      <p className="row letter-filed">
        <span className="faint">{t("mail.filedTo")}</span> <Reference name={mail.account} />
        {mail.contact && <Reference name={mail.contact} />}
      </p>
    );
  if (mail.filing === "PERSONAL") return <p className="faint">{t("mail.personal")}</p>;
  if (mail.filing !== "AMBIGUOUS") return null;
  return (
    <div className="note note-info letter-whose" role="group" aria-label={t("mail.whose")}>
      <span>{t("mail.whose")}</span>
      {(mail.candidates ?? []).map((account) => (
        <button key={account} type="button" className="chip" onClick={() => void file(account)}>
          <Reference name={account} link={false} />
        </button>
      ))}
    </div>
  );
}
