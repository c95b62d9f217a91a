import { useQueryClient } from "@tanstack/react-query";
import { Input, Modal } from "antd";
import { useState } from "react";
import { type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { post } from "@/kit/got";
import { titleOf, useResource } from "@/kit/queries";
import { Refused } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

/** What can be said of a request, as the server names it. */
export const VOTES = ["AGREED", "REFUSED", "GAVE_BACK"] as const;
export type Vote = (typeof VOTES)[number];

/** What the server takes for a reason. */
const SHORTEST_REASON = 5;

type Outcome = Schema<"workspace.BatchDecideApprovalsResponse">;

/** True where the request is open and the person has not yet said anything to it. */
export const awaits = (record: RecordJson, employee: string): boolean =>
  record["state"] === "PENDING" &&
  ((record["decisions"] ?? []) as { approver?: string; vote?: string }[]).some(
    ({ approver, vote }) => approver === employee && !vote,
  );

interface Props {
  records: RecordJson[];
  vote: Vote;
  onClose: (decided: boolean) => void;
}

/** One decision for several requests; those that cannot be decided are named with the reason, the others are done. */
export function Together({ records, vote, onClose }: Props) {
  const { t, language } = useText();
  const client = useQueryClient();
  const resource = useResource("approvals");
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const [refused, setRefused] = useState<{ record: RecordJson; reason: string }[]>();
  const needed = vote !== "AGREED" && reason.trim().length < SHORTEST_REASON;
  const decide = async () => {
    setBusy(true);
    setFailure("");
    try {
      const items = records.map(({ name, etag, digest }) => ({ name, etag, digest }));
      const answer = await post<Outcome>("/v1/approvals:batchDecide", { items, vote, reason: reason.trim() });
      const left = (answer.items ?? []).flatMap((item, index) => {
        const record = records[index];
        return item.reason && record ? { record, reason: item.text ?? item.reason } : [];
      });
      const count = records.length - left.length;
      if (count > 0) tell(t("approvals.decided", { count }));
      if (left.length > 0) setRefused(left);
      else onClose(true);
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setBusy(false);
      void client.invalidateQueries({ queryKey: ["list", "approvals"] });
    }
  };
  const title = t(`approvals.bulk.${vote}`, { count: records.length });
  if (refused)
    return (
      <Modal open title={title} footer={null} onCancel={() => onClose(true)}>
        <Refused>{t("list.refused", { count: refused.length })}</Refused>
        <ul className="refused">
          {refused.map(({ record, reason: why }) => (
            <li key={record.name}>
              {titleOf(record, resource, language)}：{why}
            </li>
          ))}
        </ul>
      </Modal>
    );
  return (
    <Modal
      open
      title={title}
      okText={title}
      okButtonProps={{ danger: vote === "REFUSED", loading: busy, disabled: needed }}
      cancelText={t("action.cancel")}
      onOk={() => void decide()}
      onCancel={() => onClose(false)}
    >
      <div className="stack">
        <Refused>{failure}</Refused>
        <ul className="refused">
          {records.map((record) => (
            <li key={record.name}>{titleOf(record, resource, language)}</li>
          ))}
        </ul>
        <label className="stack" htmlFor="approvals-reason">
          {t(vote === "AGREED" ? "approvals.remark" : "approvals.reason", { least: SHORTEST_REASON })}
          <Input.TextArea
            id="approvals-reason"
            rows={2}
            value={reason}
            onChange={({ target }) => setReason(target.value)}
          />
        </label>
      </div>
    </Modal>
  );
}
