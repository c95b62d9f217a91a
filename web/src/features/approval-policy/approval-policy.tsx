import { History } from "@/kit/history";
import { useText } from "@/i18n";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Flow } from "./flow";
import { Preview } from "./preview";

/** A policy: its steps from top to bottom in words, and whom it would ask. */
export function ApprovalPolicyPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("approvalPolicies");
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["steps"]}
      tabs={(record) => [
        { key: "flow", label: t("approvals.policy.flow"), content: <Flow policy={record} /> },
        {
          key: "preview",
          label: t("approvals.policy.preview"),
          content: <Preview key={record.etag} policy={record} />,
        },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}
