import { CloseOutlined } from "@ant-design/icons";
import type { Field, Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { NO_FILTER, takesNoValue, valuesOf, type Condition, type Filter } from "@/kit/filter";
import { filterableFields } from "@/kit/filter-builder";

interface Props {
  resource: Resource;
  filter: Filter;
  onChange: (filter: Filter) => void;
}

/** What the list is narrowed by, always in sight and removable one by one. */
export function FilterChips({ resource, filter, onChange }: Props) {
  const { t, label } = useText();
  const fields = filterableFields(resource);
  if (filter.groups.length === 0) return null;
  const without = (group: number, condition: number) =>
    onChange({
      groups: filter.groups
        .map((conditions, index) =>
          index === group ? conditions.filter((_, position) => position !== condition) : conditions,
        )
        .filter((conditions) => conditions.length > 0),
    });
  return (
    <>
      {filter.groups.map((group, index) => (
        <span key={index} className="chip-group">
          {index > 0 && <em>{t("filter.or")}</em>}
          {group.map((condition, position) => {
            const field = fields.find(({ name }) => name === condition.field);
            return (
              <span key={position} className="chip chip-filter">
                {field ? label(field.label) : condition.field} {t(`operator.${condition.operator}`)}{" "}
                {!takesNoValue(condition.operator) && <ConditionText field={field} condition={condition} />}
                <button
                  type="button"
                  aria-label={t("action.remove")}
                  onClick={() => without(index, position)}
                >
                  <CloseOutlined />
                </button>
              </span>
            );
          })}
        </span>
      ))}
      <button type="button" className="link" onClick={() => onChange(NO_FILTER)}>
        {t("filter.clear")}
      </button>
    </>
  );
}

function ConditionText({ field, condition }: { field: Field | undefined; condition: Condition }) {
  const { t, label } = useText();
  const { value } = condition;
  if (value === "me") return <>{t("filter.me")}</>;
  if (condition.operator === "oneOf")
    return (
      <>
        {valuesOf(value)
          .map((one) => field?.choices.find((candidate) => candidate.value === one))
          .map((one, index) => (one ? label(one.label) : valuesOf(value)[index]))
          .join(" / ")}
      </>
    );
  const choice = field?.choices.find((candidate) => candidate.value === value);
  if (choice) return <>{label(choice.label)}</>;
  if (field?.kind === "reference" && /\/./.test(value)) return <Reference name={value} link={false} />;
  if (field?.kind === "boolean") return <>{value === "true" ? t("value.yes") : t("value.no")}</>;
  if (["date", "day", "instant"].includes(field?.kind ?? ""))
    return <>{t(`moment.${value}`, { defaultValue: value })}</>;
  return <>{value}</>;
}
