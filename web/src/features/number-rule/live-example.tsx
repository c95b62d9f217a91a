import type { AdviceProps } from "@/advice";
import { useText } from "@/i18n";
import { exampleOf } from "./example";

const SHOWN = 3;

/** The first numbers that a rule would give today, while one types its pattern. */
export function LiveExample({ values }: AdviceProps) {
  const { t } = useText();
  const pattern = String(values["pattern"] ?? "");
  if (!pattern) return null;
  const first = Number(values["start"]) || 1;
  const numbers = Array.from({ length: SHOWN }, (_, step) =>
    exampleOf(pattern, new Date(), first + step, t("numberRule.department")),
  );
  return (
    <p className="advice-line" role="status">
      <span className="faint">{t("numberRule.example")}</span>{" "}
      {numbers[0] ? <code>{numbers.join("  ")}</code> : t("numberRule.incomplete")}
    </p>
  );
}
