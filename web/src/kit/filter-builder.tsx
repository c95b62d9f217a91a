import { CloseOutlined, PlusOutlined } from "@ant-design/icons";
import { Input, Select } from "antd";
import dayjs from "dayjs";
import type { Field, Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import { possibleColumns } from "./columns";
import { FieldInput } from "./field-input";
import { joinValues, takesNoValue, valuesOf, type Condition, type Filter, type Operator } from "./filter";
import { toIso, type DateJson } from "./dates";

const OPERATORS: Partial<Record<Field["kind"], Operator[]>> = {
  choice: ["is", "isNot", "oneOf", "empty", "notEmpty"],
  reference: ["is", "isNot", "empty", "notEmpty"],
  dictionary: ["is", "isNot", "empty", "notEmpty"],
  boolean: ["is"],
  money: ["is", "over", "atLeast", "under", "atMost", "empty", "notEmpty"],
  integer: ["is", "isNot", "over", "atLeast", "under", "atMost", "empty", "notEmpty"],
  decimal: ["is", "isNot", "over", "atLeast", "under", "atMost", "empty", "notEmpty"],
  day: ["is", "atLeast", "under", "empty", "notEmpty"],
  date: ["is", "atLeast", "under", "empty", "notEmpty"],
  instant: ["atLeast", "under", "empty", "notEmpty"],
};
const TEXT: Operator[] = ["contains", "is", "isNot", "empty", "notEmpty"];

export const operatorsOf = (field: Field): Operator[] =>
  field.many ? ["contains", "empty", "notEmpty"] : (OPERATORS[field.kind] ?? TEXT);

export const filterableFields = (resource: Resource) =>
  possibleColumns(resource).filter((field) => field.kind !== "object");

const RELATIVE = [
  "today",
  "today-7d",
  "today-30d",
  "startOfWeek",
  "startOfMonth",
  "startOfQuarter",
  "startOfYear",
  "today+7d",
  "today+30d",
];

interface Props {
  resource: Resource;
  filter: Filter;
  onChange: (filter: Filter) => void;
}

/** Groups of conditions: all within a group must hold, and any one group. */
export function FilterBuilder({ resource, filter, onChange }: Props) {
  const { t } = useText();
  const fields = filterableFields(resource);
  const groups = filter.groups.length > 0 ? filter.groups : [[]];
  const fresh = (): Condition => {
    const field = fields[0];
    return { field: field?.name ?? "", operator: field ? (operatorsOf(field)[0] ?? "is") : "is", value: "" };
  };
  const setGroup = (index: number, group: Condition[]) =>
    onChange({
      groups: groups
        .map((other, position) => (position === index ? group : other))
        .filter((other) => other.length > 0),
    });

  return (
    <div className="filter-builder">
      {groups.map((group, index) => (
        <fieldset key={index} className="filter-group">
          <legend>{index === 0 ? t("filter.where") : t("filter.or")}</legend>
          {group.map((condition, position) => (
            <ConditionRow
              key={position}
              id={`filter-${index}-${position}`}
              fields={fields}
              condition={condition}
              onChange={(next) =>
                setGroup(
                  index,
                  group.map((other, at) => (at === position ? next : other)),
                )
              }
              onRemove={() =>
                setGroup(
                  index,
                  group.filter((_, at) => at !== position),
                )
              }
            />
          ))}
          <button type="button" className="link" onClick={() => setGroup(index, [...group, fresh()])}>
            <PlusOutlined aria-hidden="true" /> {group.length > 0 ? t("filter.and") : t("filter.add")}
          </button>
        </fieldset>
      ))}
      {filter.groups.length > 0 && (
        <button
          type="button"
          className="link"
          onClick={() => onChange({ groups: [...filter.groups, [fresh()]] })}
        >
          <PlusOutlined aria-hidden="true" /> {t("filter.addOr")}
        </button>
      )}
    </div>
  );
}

interface RowProps {
  id: string;
  fields: Field[];
  condition: Condition;
  onChange: (condition: Condition) => void;
  onRemove: () => void;
}

function ConditionRow({ id, fields, condition, onChange, onRemove }: RowProps) {
  const { t, label } = useText();
  const field = fields.find((candidate) => candidate.name === condition.field);
  return (
    <div className="filter-row">
      <Select
        aria-label={t("filter.field")}
        showSearch={{ optionFilterProp: "label" }}
        value={condition.field}
        options={fields.map((candidate) => ({ value: candidate.name, label: label(candidate.label) }))}
        onChange={(name: string) => {
          const next = fields.find((candidate) => candidate.name === name);
          onChange({ field: name, operator: next ? (operatorsOf(next)[0] ?? "is") : "is", value: "" });
        }}
      />
      <Select
        aria-label={t("filter.operator")}
        value={condition.operator}
        options={(field ? operatorsOf(field) : TEXT).map((operator) => ({
          value: operator,
          label: t(`operator.${operator}`),
        }))}
        onChange={(operator: Operator) => onChange({ ...condition, operator })}
      />
      {takesNoValue(condition.operator) || !field ? (
        <span />
      ) : (
        <ConditionValue
          id={id}
          field={field}
          several={condition.operator === "oneOf"}
          value={condition.value}
          onChange={(value) => onChange({ ...condition, value })}
        />
      )}
      <button type="button" className="icon-button" aria-label={t("action.remove")} onClick={onRemove}>
        <CloseOutlined />
      </button>
    </div>
  );
}

function ConditionValue({
  id,
  field,
  several,
  value,
  onChange,
}: {
  id: string;
  field: Field;
  several: boolean;
  value: string;
  onChange: (value: string) => void;
}) {
  const { t } = useText();
  if (field.kind === "boolean")
    return (
      <Select
        aria-label={t("filter.value")}
        value={value || undefined}
        options={[
          { value: "true", label: t("value.yes") },
          { value: "false", label: t("value.no") },
        ]}
        onChange={onChange}
      />
    );
  if (["date", "day", "instant"].includes(field.kind))
    return (
      <span className="filter-time">
        <Select
          aria-label={t("filter.value")}
          value={RELATIVE.includes(value) ? value : value ? "day" : undefined}
          placeholder={t("filter.when")}
          options={[
            ...RELATIVE.map((moment) => ({ value: moment, label: t(`moment.${moment}`) })),
            { value: "day", label: t("filter.day") },
          ]}
          onChange={(next: string) => onChange(next === "day" ? dayjs().format("YYYY-MM-DD") : next)}
        />
        {value !== "" && !RELATIVE.includes(value) && (
          <FieldInput
            id={id}
            field={{ ...field, kind: "date" }}
            value={value}
            onChange={(next) => onChange(toIso(next as DateJson) || "")}
          />
        )}
      </span>
    );
  if (field.kind === "reference" && field.references.includes("employees"))
    return (
      <span className="filter-time">
        <Select
          aria-label={t("filter.value")}
          value={value === "me" ? "me" : value ? "other" : undefined}
          placeholder={t("form.choose")}
          options={[
            { value: "me", label: t("filter.me") },
            { value: "other", label: t("filter.person") },
          ]}
          onChange={(next: string) => onChange(next === "me" ? "me" : "employees/")}
        />
        {value !== "" && value !== "me" && (
          <FieldInput
            id={id}
            field={{ ...field, many: false }}
            value={value === "employees/" ? undefined : value}
            onChange={(next) => onChange(String(next ?? "employees/"))}
          />
        )}
      </span>
    );
  if (several)
    return (
      <FieldInput
        id={id}
        field={{ ...field, many: true, readOnly: false }}
        value={valuesOf(value)}
        every
        onChange={(next) => onChange(joinValues(next as string[]))}
      />
    );
  if (field.kind === "choice" || field.kind === "reference" || field.kind === "dictionary")
    return (
      <FieldInput
        id={id}
        field={{ ...field, many: false, readOnly: false }}
        value={value || undefined}
        every
        onChange={(next) => onChange(String(next ?? ""))}
      />
    );
  return (
    <Input
      id={id}
      aria-label={t("filter.value")}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}
