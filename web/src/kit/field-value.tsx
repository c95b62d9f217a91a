import { Link } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { formatDate, formatInstant, type DateJson } from "./dates";
import { useDictionaryLabel } from "./dictionary";
import { useKeyed } from "./keyed";
import { formatMoney, type Money } from "./money";
import { isBlank } from "./patch";
import { isName, titleOf, useCatalogue, useNamed } from "./queries";
import { readRule } from "./recurrence-rule";
import { useSuggestions } from "./suggestions";
import { toneOf } from "./tones";
import { numberFormat } from "./formatters";

/** One value as people read it. `links` is off where a link would stand inside another one. */
export function FieldValue({
  field,
  value,
  links = true,
}: {
  field: Field;
  value: unknown;
  links?: boolean;
}) {
  if (isBlank(value)) return <span className="faint">—</span>;
  if (field.many && Array.isArray(value)) {
    if (field.kind === "object")
      return <ObjectList field={field} items={value as Record<string, unknown>[]} />;
    return (
      <span className="values">
        {value.map((item, index) => (
          <One key={index} field={field} value={item} links={links} chip />
        ))}
      </span>
    );
  }
  return <One field={field} value={value} links={links} />;
}

interface OneProps {
  field: Field;
  value: unknown;
  links: boolean;
  chip?: boolean;
}

function One({ field, value, links, chip = false }: OneProps) {
  const { t, language, label } = useText();
  switch (field.kind) {
    case "money":
      return <span className="number">{formatMoney(value as Money, language)}</span>;
    case "date":
    case "day":
      return <>{formatDate(value as DateJson, language)}</>;
    case "instant":
      return <time dateTime={String(value)}>{formatInstant(String(value), language)}</time>;
    case "boolean":
      return <>{value ? t("value.yes") : t("value.no")}</>;
    case "choice": {
      const choice = field.choices.find((candidate) => candidate.value === value);
      const text = choice ? label(choice.label) : <ActionText value={String(value)} />;
      if (field.name === "state" || chip)
        return <span className={`tag tag-${toneOf(String(value))}`}>{text}</span>;
      return <>{text}</>;
    }
    case "localTime":
      return <>{String(value).replace("T", " ")}</>;
    case "recurrence":
      return <RecurrenceText value={String(value)} />;
    case "reference":
      return <Reference name={String(value)} link={links} />;
    case "integer":
    case "decimal":
      return (
        <>
          {numberFormat(language).format(Number(value))}
          {field.unit && ` ${field.unit}`}
        </>
      );
    case "dictionary":
      return <DictionaryLabel name={field.dictionary} value={String(value)} chip={chip} />;
    case "keyed":
      return <KeyedLabel field={field} value={String(value)} />;
    case "object":
      return <ObjectValue field={field} value={value as Record<string, unknown>} links={links} />;
    case "free":
      return <code>{JSON.stringify(value)}</code>;
    default: {
      const text = String(value);
      const scheme = SCHEMES[field.format];
      if (scheme !== undefined && links)
        return (
          <a href={`${scheme}${text}`} {...(scheme ? {} : { target: "_blank", rel: "noreferrer" })}>
            {text}
          </a>
        );
      if (FACT.test(text)) return <FactName name={text} />;
      if (field.suggest) return <SuggestedLabel field={field} value={text} chip={chip} />;
      // Words that the server keeps as codes: what the catalogue knows is said, the rest stands as it came.
      if (CODE.test(text)) return <>{t(`code.${text}`, { defaultValue: text })}</>;
      if (isName(text)) return <Reference name={text} link={links} />;
      if (chip) return <span className="tag tag-calm">{text}</span>;
      return field.multiline ? <span className="prose">{text}</span> : <>{text}</>;
    }
  }
}

/** What a policy holds, which no choice of the field says. */
function ActionText({ value }: { value: string }) {
  const { label } = useText();
  return <>{label(useCatalogue().actionText(value))}</>;
}

function RecurrenceText({ value }: { value: string }) {
  const { t, language, comma } = useText();
  const rule = readRule(value);
  if (!rule?.freq) return <>{value}</>;
  return (
    <>
      {[
        t("recurrence.text", { count: rule.interval ?? 1, unit: t(`recurrence.unit.${rule.freq}`) }),
        rule.days?.map((day) => t(`recurrence.day.${day}`)).join(comma),
        rule.until ? t("recurrence.untilText", { day: formatDate(rule.until, language) }) : "",
        rule.count ? t("recurrence.countText", { count: rule.count }) : "",
      ]
        .filter(Boolean)
        .join(" · ")}
    </>
  );
}

/** What makes a link of a text of the format; an address of the web is one itself. */
const SCHEMES: Record<string, string> = { uri: "", email: "mailto:", tel: "tel:" };

const CODE = /^[A-Z][A-Z_]{2,}$/;
const FACT = /^crm\.\w+\.v1\.[A-Z]\w+$/;

/** What happened, in words. */
export function FactName({ name }: { name: string }) {
  const { label } = useText();
  const text = useCatalogue().facts[name];
  return <>{text ? label(text) : name}</>;
}

function DictionaryLabel({ name, value, chip }: { name: string; value: string; chip: boolean }) {
  const label = useDictionaryLabel(name, value);
  return chip ? <span className="tag tag-calm">{label}</span> : <>{label}</>;
}

function SuggestedLabel({ field, value, chip }: { field: Field; value: string; chip: boolean }) {
  const label = useSuggestions(field.suggest).find((entry) => entry.value === value)?.label ?? value;
  return chip ? <span className="tag tag-calm">{label}</span> : <>{label}</>;
}

function KeyedLabel({ field, value }: { field: Field; value: string }) {
  return <>{useKeyed(field.keyed).find((item) => item.key === value)?.label ?? value}</>;
}

/** Shows the title of the record, never its id, and nothing of one that the person may not see. */
export function Reference({ name, link = true }: { name: string; link?: boolean }) {
  const { t } = useText();
  const { record, resource } = useNamed(name);
  if (record === undefined && resource) return <span className="faint">…</span>;
  if (!record)
    return (
      <span className="faint">{name.startsWith("system/") ? t("value.system") : t("value.hidden")}</span>
    );
  const title = <Title record={record} resource={resource} />;
  return link ? <Link to={`/${name}`}>{title}</Link> : title;
}

/** What people call the record; one whose title is another record is called by that, one without any by its kind. */
export function Title({ record, resource }: { record: RecordJson; resource: Resource | undefined }) {
  const { language } = useText();
  const value = record[resource?.titleField ?? ""];
  const another = isName(value) && value !== record.name;
  return another ? <Reference name={value} link={false} /> : <>{titleOf(record, resource, language)}</>;
}

/** A nested message as small pairs of label and value. */
function ObjectValue({
  field,
  value,
  links,
}: {
  field: Field;
  value: Record<string, unknown>;
  links: boolean;
}) {
  const { label } = useText();
  return (
    <span className="pieces">
      {field.fields
        .filter((inner) => inner.name !== "digest" && !isBlank(value[inner.name]))
        .map((inner) => (
          <span key={inner.name}>
            <span className="faint">{label(inner.label)}</span>{" "}
            <FieldValue field={inner} value={value[inner.name]} links={links} />
          </span>
        ))}
    </span>
  );
}

function ObjectList({ field, items }: { field: Field; items: Record<string, unknown>[] }) {
  const { comma } = useText();
  return <span className="cut-lines">{items.map((item) => summaryOf(field, item)).join(comma)}</span>;
}

/** The first two texts of a nested value stand for it: a number of a phone, the line of an address. */
export function summaryOf(field: Field, value: Record<string, unknown>): string {
  const leading = ["number", "address", "text", "displayName", "line"].find((key) => !isBlank(value[key]));
  if (leading) return String(value[leading]);
  return field.fields
    .map((inner) => value[inner.name])
    .filter((inner) => typeof inner === "string" || typeof inner === "number")
    .slice(0, 2)
    .join(" ");
}
