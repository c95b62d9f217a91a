import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation, useNavigate } from "react-router";
import { act, remove, type Json, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Page } from "@/kit/page";
import { firstPageQuery, useResource } from "@/kit/queries";
import { RecordForm } from "@/kit/record-form";
import { Loaded, Refused } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { textQuery } from "./letter";
import type { Mail } from "./mail";

/** Where a mail is found in its mailbox. */
const placeOf = (mail: RecordJson, folder: string) =>
  `/mail?${new URLSearchParams({ box: String(mail["mailbox"]), folder, mail: mail.name }).toString()}`;

/** Leaves, or stays as a draft and says why it may not leave. */
function useSend() {
  const { t } = useText();
  const navigate = useNavigate();
  return async (mail: RecordJson): Promise<string> => {
    try {
      await act(mail.name, "send", {}, mail.etag, crypto.randomUUID());
      tell(t("mail.leaving"), "good");
      void navigate(placeOf(mail, "sent"), { replace: true });
      return "";
    } catch (error) {
      return messageOf(error);
    }
  };
}

/** A mail from the beginning; what the record gives from which one writes is filled in. */
export function WritePage() {
  const { t } = useText();
  const navigate = useNavigate();
  const send = useSend();
  const resource = useResource("mailMessages");
  const taken = useLocation().state as Json | null;
  const boxes = useQuery(firstPageQuery("mailAccounts", { filter: 'state = "ACTIVE"', pageSize: 2 }));
  return (
    <Page title={t("mail.write")} crumbs={[{ label: t("page.mail"), path: "/mail" }]}>
      <Loaded query={boxes}>
        {({ records: [only, second] }) => (
          <section className="card card-body writing">
            <RecordForm
              resource={resource}
              quick
              further={t("mail.send")}
              initial={{ ...(only && !second ? { mailbox: only.name } : {}), ...taken }}
              onSaved={(mail, further) => {
                void (further ? send(mail) : Promise.resolve("")).then((failure) => {
                  if (!further || failure) void navigate(placeOf(mail, "drafts"), { replace: true });
                  if (failure) tell(failure, "bad");
                });
              }}
              onCancel={() => void navigate(-1)}
            />
          </section>
        )}
      </Loaded>
    </Page>
  );
}

/** What is being written: changed, sent, or thrown away. */
export function Draft({ mail }: { mail: Mail }) {
  const { t } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const send = useSend();
  const resource = useResource("mailMessages");
  // What is typed must not change under the fingers: the text is fetched once.
  const text = useQuery({ ...textQuery(mail.name), staleTime: Infinity, refetchOnWindowFocus: false });
  const [current, setCurrent] = useState<RecordJson>(mail);
  const [failure, setFailure] = useState("");
  const discard = async () => {
    try {
      await remove(mail.name, current.etag);
      tell(t("mail.discarded"));
      void navigate(`/mail?${new URLSearchParams({ box: mail.mailbox ?? "" }).toString()}`, {
        replace: true,
      });
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      void client.invalidateQueries({ queryKey: ["list", "mailMessages"] });
    }
  };
  return (
    <section className="card card-body stack writing" aria-label={t("mail.draft")}>
      <Refused>{failure}</Refused>
      <Loaded query={text}>
        {(read) => (
          <RecordForm
            key={current.etag}
            resource={resource}
            record={{ ...current, body: [read.text, read.quote].filter(Boolean).join("\n\n") }}
            quick
            further={t("mail.send")}
            onSaved={(saved, further) => {
              void (async () => {
                // Kept apart from the mail, the text is not in the answer.
                await client.fetchQuery({ ...textQuery(mail.name), staleTime: 0 });
                setCurrent(saved);
                setFailure(further ? await send(saved) : "");
              })();
            }}
            onCancel={() => void discard()}
            cancelLabel={t("mail.discard")}
          />
        )}
      </Loaded>
    </section>
  );
}
