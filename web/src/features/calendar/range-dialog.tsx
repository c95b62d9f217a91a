import { Input, Modal, Radio } from "antd";
import { useState } from "react";
import { useText } from "@/i18n";
import { RANGES, type Range } from "./dates";

interface Props {
  title: string;
  /** Whether it is asked why, too. */
  asksWhy?: boolean;
  danger?: boolean;
  /** Dates that are one alone are not asked which are meant. */
  series: boolean;
  onOk: (range: Range, reason: string) => void;
  onCancel: () => void;
}

/** Which dates of a series are meant: this one, it and those behind it, or all. */
export function RangeDialog({ title, asksWhy = false, danger = false, series, onOk, onCancel }: Props) {
  const { t } = useText();
  const [range, setRange] = useState<Range>(series ? "ONE" : "EVERY");
  const [reason, setReason] = useState("");
  return (
    <Modal
      open
      title={title}
      okText={title}
      okButtonProps={{ danger }}
      cancelText={t("action.cancel")}
      onOk={() => onOk(range, reason.trim())}
      onCancel={onCancel}
    >
      <div className="stack">
        {series && (
          <Radio.Group
            aria-label={t("calendar.which")}
            value={range}
            onChange={(event) => setRange(event.target.value as Range)}
            options={RANGES.map((value) => ({ value, label: t(`calendar.range.${value}`) }))}
            vertical
          />
        )}
        {asksWhy && (
          <label className="stack" htmlFor="range-reason">
            {t("calendar.why")}
            <Input id="range-reason" value={reason} onChange={(event) => setReason(event.target.value)} />
          </label>
        )}
      </div>
    </Modal>
  );
}
