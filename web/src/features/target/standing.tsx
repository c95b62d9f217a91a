import { useQuery } from "@tanstack/react-query";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Bars } from "@/kit/bars";
import { formatDate } from "@/kit/dates";
import { Figure } from "@/kit/figure";
import { gotQuery } from "@/kit/got";
import { useResource } from "@/kit/queries";
import { Empty, Loaded } from "@/kit/states";
import { toneOf } from "@/kit/tones";
import type { Target } from "./target";
import { useAmount } from "./amount";

type Found = Schema<"sales.Target.Standing">;

const FIGURES = ["actual", "planLine", "forecast", "gap", "neededPerDay"] as const;

/** How it stands today against the line of the plan, and how it stood week by week. */
export function Standing({ target }: { target: Target }) {
  const { t, language } = useText();
  const amount = useAmount(target);
  const today = useQuery(
    gotQuery<Found>(["record", target.name, "check", target.etag], `/v1/${target.name}:check`),
  );
  const weeks = target.standings ?? [];
  return (
    <div className="stack">
      <Loaded query={today} lines={3}>
        {(standing) => (
          <div className="figures">
            <Figure label={t("target.percent")} note={<Light value={standing.light} />}>
              {standing.percent ? `${Number(standing.percent)} %` : "—"}
            </Figure>
            {FIGURES.map((key) => (
              <Figure key={key} label={t(`target.figure.${key}`)} exact={amount.exact(standing[key])}>
                {amount.short(standing[key])}
              </Figure>
            ))}
          </div>
        )}
      </Loaded>
      <section className="card card-body" aria-label={t("target.weeks")}>
        <h2>{t("target.weeks")}</h2>
        {weeks.length === 0 ? (
          <Empty title={t("target.noWeeks")} />
        ) : (
          <Bars
            title={t("target.weeks")}
            series={[t("target.figure.actual"), t("target.behind")]}
            bars={weeks.map((week) => ({
              key: formatDate(week.day, language),
              label: formatDate(week.day, language),
              values: [
                Number(week.actual ?? 0),
                Math.max(0, Number(week.planLine ?? 0) - Number(week.actual ?? 0)),
              ],
            }))}
            format={(value) => amount.short(String(value))}
          />
        )}
      </section>
    </div>
  );
}

/** How it goes, in a word and a colour. */
export function Light({ value }: { value: string | undefined }) {
  const { label } = useText();
  const field = useResource("targets").fields.find(({ name }) => name === "light");
  const choice = field?.choices.find((one) => one.value === value);
  return choice ? <span className={`tag tag-${toneOf(choice.value)}`}>{label(choice.label)}</span> : null;
}
