import { Modal } from "antd";
import { useState } from "react";
import { useText } from "@/i18n";
import { FormField } from "@/kit/record-form";
import { useResource } from "@/kit/queries";
import { Refused } from "@/kit/states";
import { messageOf } from "@/kit/verbs";
import { changeDates, isClash, type DateChange, type Event, type OneDate, type Range } from "./dates";

interface Props {
  event: Event;
  date: OneDate;
  range: Range;
  onClose: (changed: boolean) => void;
}

const ASKED = ["displayName", "location", "start", "end"];

/** What differs on one date of a series, or from one date on. */
export function DateForm({ event, date, range, onClose }: Props) {
  const { t } = useText();
  const { fields } = useResource("calendarEvents");
  const own = (event.overrides ?? []).find(({ occurrence }) => occurrence === date.occurrence);
  const [change, setChange] = useState<DateChange>({
    displayName: (range === "ONE" && own?.displayName) || (event.displayName ?? ""),
    location: (range === "ONE" && own?.location) || (event.location ?? ""),
    start: date.start,
    end: date.end,
    recurrence: event.recurrence ?? "",
  });
  const [failure, setFailure] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const clash = isClash(failure);
  const save = async () => {
    setBusy(true);
    try {
      await changeDates(event, date.occurrence, change, range, clash);
      onClose(true);
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  const times = date.start.includes("T") ? ("localTime" as const) : ("day" as const);
  const asked = [...ASKED, ...(range === "FOLLOWING" ? ["recurrence"] : [])].flatMap((name) => {
    const field = fields.find((one) => one.name === name);
    return field ? { ...field, ...(name === "start" || name === "end" ? { kind: times } : {}) } : [];
  });
  return (
    <Modal
      open
      title={t(`calendar.range.${range}`)}
      okText={clash ? t("calendar.saveAnyway") : t("action.save")}
      okButtonProps={{ loading: busy, disabled: !change.displayName.trim() || !change.start || !change.end }}
      cancelText={t("action.cancel")}
      onOk={() => void save()}
      onCancel={() => onClose(false)}
    >
      <div className="stack">
        <Refused>{failure === undefined ? "" : messageOf(failure)}</Refused>
        {asked.map((field) => (
          <FormField
            key={field.name}
            id={`date-${field.name}`}
            field={field}
            value={change[field.name as keyof DateChange]}
            error={undefined}
            onChange={(name, value) => {
              setChange((before) => ({ ...before, [name]: String(value ?? "") }));
              setFailure(undefined);
            }}
          />
        ))}
      </div>
    </Modal>
  );
}
