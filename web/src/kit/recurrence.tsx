import { DatePicker, InputNumber, Select } from "antd";
import dayjs from "dayjs";
import { useText } from "@/i18n";
import type { InputProps } from "./field-input";
import { readRule, WEEKDAYS, writeRule, type Rule } from "./recurrence-rule";

/** How an event comes again, in words; a rule beyond what it shows stays as it is. */
export function RecurrenceInput({ id, value, disabled = false, onChange }: InputProps) {
  const { t } = useText();
  const text = (value as string | undefined) ?? "";
  const rule = readRule(text);
  const put = (change: Partial<Rule>) => onChange(writeRule({ ...(rule ?? { freq: "" }), ...change }));
  if (rule === null)
    return (
      <div className="row" id={id}>
        <code className="grow">{text}</code>
        <button type="button" className="link" onClick={() => onChange("")}>
          {t("recurrence.none")}
        </button>
      </div>
    );
  return (
    <div className="recurrence">
      <Select
        id={id}
        disabled={disabled}
        value={rule.freq}
        options={["", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"].map((freq) => ({
          value: freq,
          label: t(`recurrence.${freq || "none"}`),
        }))}
        onChange={(freq: Rule["freq"]) =>
          put({ freq, ...(freq ? { count: rule.count ?? (rule.until ? undefined : 10) } : {}) })
        }
      />
      {rule.freq !== "" && (
        <>
          <label className="row">
            {t("recurrence.every")}
            <InputNumber
              min={1}
              max={99}
              precision={0}
              disabled={disabled}
              value={rule.interval ?? 1}
              onChange={(interval) => put({ interval: interval ?? 1 })}
            />
            {t(`recurrence.unit.${rule.freq}`)}
          </label>
          {rule.freq === "WEEKLY" && (
            <div className="row" role="group" aria-label={t("recurrence.days")}>
              {WEEKDAYS.map((day) => (
                <button
                  key={day}
                  type="button"
                  className="chip"
                  disabled={disabled}
                  aria-pressed={rule.days?.includes(day) ?? false}
                  onClick={() =>
                    put({
                      days: rule.days?.includes(day)
                        ? rule.days.filter((other) => other !== day)
                        : [...(rule.days ?? []), day],
                    })
                  }
                >
                  {t(`recurrence.day.${day}`)}
                </button>
              ))}
            </div>
          )}
          <div className="row">
            <Select
              aria-label={t("recurrence.ends")}
              disabled={disabled}
              value={rule.until ? "until" : "count"}
              options={["count", "until"].map((end) => ({ value: end, label: t(`recurrence.${end}`) }))}
              onChange={(end: string) =>
                put(
                  end === "count"
                    ? { count: 10, until: undefined }
                    : { count: undefined, until: dayjs().add(3, "month").format("YYYY-MM-DD") },
                )
              }
            />
            {rule.until ? (
              <DatePicker
                aria-label={t("recurrence.until")}
                disabled={disabled}
                allowClear={false}
                value={dayjs(rule.until)}
                onChange={(day) => put({ until: day?.format("YYYY-MM-DD") })}
              />
            ) : (
              <InputNumber
                aria-label={t("recurrence.count")}
                min={1}
                max={999}
                precision={0}
                disabled={disabled}
                value={rule.count ?? 10}
                onChange={(count) => put({ count: count ?? 1 })}
              />
            )}
          </div>
        </>
      )}
    </div>
  );
}
