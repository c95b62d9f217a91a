import { EyeOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Popover } from "antd";
import { useState } from "react";
import { explainAccess } from "@/api/client";
import { useText } from "@/i18n";
import { ErrorNote, Skeleton } from "./states";

/** "Why can I see this?", answered by the server. */
export function AccessNote({ name }: { name: string }) {
  const { t } = useText();
  const [open, setOpen] = useState(false);
  return (
    <Popover
      open={open}
      onOpenChange={setOpen}
      trigger="click"
      title={t("record.whySee")}
      content={open ? <Grounds name={name} /> : null}
    >
      <button type="button" className="link" aria-expanded={open}>
        <EyeOutlined aria-hidden="true" /> {t("record.whySee")}
      </button>
    </Popover>
  );
}

function Grounds({ name }: { name: string }) {
  const answer = useQuery({ queryKey: ["record", name, "access"], queryFn: () => explainAccess(name) });
  if (answer.isError) return <ErrorNote error={answer.error} onRetry={() => void answer.refetch()} />;
  if (answer.isPending) return <Skeleton lines={2} />;
  return (
    <ul className="grounds">
      {(answer.data.grounds ?? []).map((ground) => (
        <li key={`${ground.kind}-${ground.text}`}>{ground.text}</li>
      ))}
    </ul>
  );
}
