import { useText } from "@/i18n";
import { PlainTable } from "./plain-table";

export interface Bar {
  key: string;
  label: string;
  /** One height for each series. */
  values: number[];
}

interface Props {
  title: string;
  /** What each value of a bar stands for. */
  series: string[];
  bars: Bar[];
  /** How a value is written; the number itself where nothing is said. */
  format?: (value: number) => string;
}

/** So many bars have their names below them; of more only the first and the last. */
const NAMED = 10;

/** Standing bars, one on another for each series; the same figures stand below as a table. */
export function Bars({ title, series, bars, format = String }: Props) {
  const { t } = useText();
  const most = Math.max(1, ...bars.map((bar) => sum(bar.values)));
  return (
    <figure className="bars">
      <figcaption className="bars-legend">
        {series.length > 1 &&
          series.map((name, index) => (
            <span key={name}>
              <i className={`bars-${index}`} aria-hidden="true" /> {name}
            </span>
          ))}
        <span className="faint">{t("bars.most", { value: format(most) })}</span>
      </figcaption>
      <div className="bars-plot" aria-hidden="true">
        {bars.map((bar) => (
          <div key={bar.key} className="bars-bar" title={`${bar.label}: ${format(sum(bar.values))}`}>
            {bar.values.map((value, index) => (
              <span
                key={index}
                className={`bars-${index}`}
                style={{ height: `${(Math.max(0, value) / most) * 100}%` }}
              />
            ))}
          </div>
        ))}
      </div>
      {bars.length <= NAMED ? (
        <div className="bars-names faint" aria-hidden="true">
          {bars.map((bar) => (
            <span key={bar.key} className="cut">
              {bar.label}
            </span>
          ))}
        </div>
      ) : (
        <div className="bars-ends faint" aria-hidden="true">
          <span>{bars[0]?.label}</span>
          <span>{bars.at(-1)?.label}</span>
        </div>
      )}
      <details className="nested-rows">
        <summary>{t("bars.table")}</summary>
        <PlainTable
          caption={title}
          rows={bars}
          keyOf={({ key }) => key}
          columns={[
            { key: "", title, row: true, cell: ({ label }) => label },
            ...series.map((name, index) => ({
              key: name,
              title: name,
              number: true,
              cell: ({ values }: Bar) => format(values[index] ?? 0),
            })),
          ]}
        />
      </details>
    </figure>
  );
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
