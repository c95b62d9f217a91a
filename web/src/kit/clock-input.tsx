import { TimePicker } from "antd";
import dayjs from "dayjs";

const FORMAT = "HH:mm";
/** Any day will do: only its clock is shown. */
const at = (clock: string) => (clock ? dayjs(`2000-01-01T${clock}`) : null);

/** A time on the clock as text, `08:30`; empty where none is chosen. */
export function ClockInput(props: {
  label: string;
  value: string;
  disabled?: boolean;
  clearable?: boolean;
  onChange: (clock: string) => void;
}) {
  return (
    <TimePicker
      aria-label={props.label}
      format={FORMAT}
      minuteStep={5}
      needConfirm={false}
      allowClear={props.clearable ?? true}
      disabled={props.disabled ?? false}
      value={at(props.value)}
      // Enter takes the time; it does not send the form off.
      onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
      onChange={(next) => props.onChange(next?.format(FORMAT) ?? "")}
    />
  );
}
