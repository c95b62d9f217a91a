import { AutoComplete, DatePicker, Input, InputNumber, Select, Switch } from "antd";
import dayjs from "dayjs";
import { lazy, Suspense, useState, type ComponentProps } from "react";
import type { Field } from "@/api/catalogue";
import { useText } from "@/i18n";
import { fromIso, toIso, type DateJson } from "./dates";
import { FieldLabel } from "./field-label";
import { useKeyed } from "./keyed";
import { useSuggestions } from "./suggestions";
import { useDictionary, useDictionaryEntries } from "./dictionary";
import { isParties } from "./form-model";
import { isDeep, LinesEditor } from "./lines-editor";
import { formatMoney, parseAmount, type Money } from "./money";
import { isBlank } from "./patch";
import { PartiesInput } from "./parties-input";
import { useCatalogue } from "./queries";
import { collectionOfValue, ReferencePicker } from "./reference-picker";
import { StackEditor } from "./stack-editor";
import { UploadButton } from "./upload-button";

const RecurrenceInput = lazy(async () => ({ default: (await import("./recurrence")).RecurrenceInput }));

export interface InputProps {
  id: string;
  field: Field;
  value: unknown;
  disabled?: boolean;
  invalid?: boolean;
  describedBy?: string | undefined;
  /** What can be chosen no more is offered, too: a filter looks for old records. */
  every?: boolean;
  onChange: (value: unknown) => void;
}

/** The control for a field, by what it holds. */
export function FieldInput(props: InputProps) {
  const { field } = props;
  if (field.kind === "object") {
    if (!field.many) return <ObjectInput {...props} />;
    if (isParties(field)) return <PartiesInput {...props} />;
    return isDeep(field) ? <StackEditor {...props} /> : <LinesEditor {...props} />;
  }
  if (field.kind === "reference") return <ReferenceInput {...props} />;
  if (field.kind === "choice") return <ChoiceInput {...props} />;
  if (field.kind === "dictionary") return <DictionaryInput {...props} />;
  if (field.kind === "text" && CURRENCY_FIELD.test(field.name)) return <CurrencyInput {...props} />;
  if (field.kind === "keyed") return <KeyedInput {...props} />;
  if (field.many) return <TextsInput {...props} />;
  if (field.suggest) return <SuggestedInput {...props} />;
  if (field.kind === "money") return <MoneyInput {...props} />;
  if (["date", "day", "instant"].includes(field.kind)) return <TimeInput {...props} />;
  if (field.kind === "localTime") return <LocalTimeInput {...props} />;
  if (field.kind === "recurrence")
    return (
      <Suspense fallback={null}>
        <RecurrenceInput {...props} />
      </Suspense>
    );
  if (field.kind === "boolean")
    return (
      <Switch
        id={props.id}
        checked={props.value === true}
        disabled={props.disabled ?? false}
        onChange={props.onChange}
      />
    );
  if (field.kind === "integer" || field.kind === "decimal") return <NumberInput {...props} />;
  return <TextInput {...props} />;
}

const status = (invalid: boolean | undefined) => (invalid ? "error" : "") as "error" | "";

function TextInput({ id, field, value, disabled, invalid, describedBy, onChange }: InputProps) {
  const shared = {
    id,
    value: (value as string | undefined) ?? "",
    disabled: disabled ?? false,
    status: status(invalid),
    "aria-invalid": invalid ?? false,
    "aria-describedby": describedBy,
    maxLength: field.maxLength,
  };
  if (field.multiline)
    return (
      <Input.TextArea
        {...shared}
        rows={3}
        className="grows"
        onChange={(event) => onChange(event.target.value)}
      />
    );
  if (field.secret) return <PasswordInput {...shared} onChange={onChange} />;
  const typed = INPUT_MODES[field.format];
  const phone = /phone|mobile|^number$/i.test(field.name) && !/count|amount/i.test(field.name);
  return (
    <Input
      {...shared}
      inputMode={
        typed ?? (phone ? "tel" : /email|address/i.test(id) && field.name === "address" ? "email" : "text")
      }
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

const INPUT_MODES: Record<string, "url" | "email" | "tel"> = { uri: "url", email: "email", tel: "tel" };

/** Never shown, and never taken from what the browser keeps for signing in here. */
function PasswordInput({
  onChange,
  ...shared
}: Omit<ComponentProps<typeof Input>, "onChange"> & { onChange: (value: unknown) => void }) {
  return (
    <Input
      {...shared}
      type="password"
      autoComplete="new-password"
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

const CURRENCY_FIELD = /^(currency|currencyCode|defaultCurrency)$/;

function CurrencyInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      showSearch
      allowClear={!field.required}
      value={value === "" ? undefined : value}
      disabled={disabled ?? false}
      status={status(invalid)}
      options={CURRENCIES.map((code) => ({ value: code, label: code }))}
      onChange={onChange}
    />
  );
}

function NumberInput({ id, field, value, disabled, invalid, describedBy, onChange }: InputProps) {
  return (
    <InputNumber
      id={id}
      style={{ width: "100%" }}
      value={value as number | null}
      {...(field.kind === "integer" ? { precision: 0 } : {})}
      disabled={disabled ?? false}
      status={status(invalid)}
      aria-describedby={describedBy}
      {...(field.unit ? { suffix: field.unit } : {})}
      parser={(text) => Number((text ?? "").normalize("NFKC").replace(/[,，\s]/g, ""))}
      onChange={onChange}
    />
  );
}

/** A field that may name records of several collections asks first of which. */
function ReferenceInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  const { t, label, noun } = useText();
  const catalogue = useCatalogue();
  const [chosen, setChosen] = useState<string>();
  const held: unknown = Array.isArray(value) ? value[0] : value;
  const collection = isBlank(held) && chosen ? chosen : collectionOfValue(held, field.references);
  const picker = (
    <ReferencePicker
      id={id}
      collection={collection}
      many={field.many}
      value={value as string | string[] | undefined}
      disabled={disabled ?? false}
      invalid={invalid ?? false}
      onChange={onChange}
    />
  );
  if (collection === "files")
    return (
      <div className="input-files">
        {picker}
        <UploadButton
          many={field.many}
          disabled={disabled ?? false}
          onStored={(names) =>
            onChange(field.many ? [...((value as string[] | null) ?? []), ...names] : names[0])
          }
        />
      </div>
    );
  if (field.references.length < 2) return picker;
  return (
    <div className="input-pair">
      <Select
        aria-label={t("form.whichKind", { field: label(field.label) })}
        value={collection}
        disabled={disabled ?? false}
        options={field.references.flatMap((one) => {
          const resource = catalogue.find(one);
          return resource ? [{ value: one, label: noun(resource.label) }] : [];
        })}
        onChange={(next: string) => {
          setChosen(next);
          onChange(undefined);
        }}
      />
      {picker}
    </div>
  );
}

function ChoiceInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  const { t, label } = useText();
  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      mode={field.many ? "multiple" : undefined}
      value={value === "" ? undefined : value}
      allowClear={!field.required}
      showSearch={field.choices.length > SEARCHED ? { optionFilterProp: "label" } : false}
      disabled={disabled ?? false}
      status={status(invalid)}
      placeholder={t("form.choose")}
      options={field.choices.map((choice) => ({ value: choice.value, label: label(choice.label) }))}
      onChange={onChange}
    />
  );
}

/** Choices come from the dictionary; a value that is not in it can still be typed where the server takes it. */
function DictionaryInput({ id, field, value, disabled, invalid, every, onChange }: InputProps) {
  const { t } = useText();
  const entries = useDictionaryEntries(field.dictionary);
  const chosen = useDictionary(field.dictionary);
  const had = (Array.isArray(value) ? value : [value]) as unknown[];
  // What a record has is shown by its name, even where it could not be chosen again.
  const kept = entries.filter(
    (entry) => had.includes(entry.value) && !chosen.some((one) => one.value === entry.value),
  );
  const choices = every ? entries : [...chosen, ...kept];
  if (field.many)
    return (
      <Select
        id={id}
        mode="tags"
        style={{ width: "100%" }}
        value={value as string[] | undefined}
        disabled={disabled ?? false}
        status={status(invalid)}
        options={choices}
        onChange={onChange}
      />
    );
  if (choices.length > 0)
    return (
      <Select
        id={id}
        style={{ width: "100%" }}
        showSearch={{ optionFilterProp: "label" }}
        allowClear
        value={value === "" ? undefined : value}
        disabled={disabled ?? false}
        status={status(invalid)}
        placeholder={t("form.choose")}
        options={choices}
        onChange={onChange}
      />
    );
  return (
    <AutoComplete
      id={id}
      style={{ width: "100%" }}
      value={(value as string | undefined) ?? ""}
      disabled={disabled ?? false}
      status={status(invalid)}
      onChange={onChange}
    />
  );
}

function KeyedInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  const { t } = useText();
  const items = useKeyed(field.keyed);
  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      allowClear={!field.required}
      value={value === "" ? undefined : value}
      disabled={disabled ?? false}
      status={status(invalid)}
      placeholder={t("form.choose")}
      options={[...new Map(items.map((item) => [item.key, { value: item.key, label: item.label }])).values()]}
      onChange={onChange}
    />
  );
}

const SEARCHED = 8;

/** One of what the declaration names, found by its words. */
function SuggestedInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  const { t } = useText();
  const options = useSuggestions(field.suggest);
  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      showSearch={{ optionFilterProp: "label" }}
      allowClear={!field.required}
      value={value === "" ? undefined : value}
      disabled={disabled ?? false}
      status={status(invalid)}
      placeholder={t("form.choose")}
      options={options}
      onChange={onChange}
    />
  );
}

function TextsInput({ id, field, value, disabled, invalid, onChange }: InputProps) {
  const { t } = useText();
  const options = useSuggestions(field.suggest);
  return (
    <Select
      id={id}
      mode="tags"
      style={{ width: "100%" }}
      value={(value as string[] | undefined) ?? []}
      disabled={disabled ?? false}
      status={status(invalid)}
      placeholder={t("form.tags")}
      tokenSeparators={[",", "，", ";", "；"]}
      showSearch={{ optionFilterProp: "label" }}
      {...(options.length > 0 ? { options } : { open: false, suffixIcon: null })}
      onChange={onChange}
    />
  );
}

function TimeInput({ id, field, value, disabled, invalid, describedBy, onChange }: InputProps) {
  const day = field.kind !== "instant";
  const dayOf = (iso: string) => (field.kind === "day" ? iso : fromIso(iso));
  const iso = day ? toIso(value as DateJson) : ((value as string | undefined) ?? "");
  return (
    <DatePicker
      id={id}
      style={{ width: "100%" }}
      showTime={day ? false : { format: "HH:mm" }}
      format={day ? ["YYYY-MM-DD", "YYYYMMDD", "D MMM YYYY"] : "YYYY-MM-DD HH:mm"}
      value={iso ? dayjs(iso) : null}
      // Enter takes the day; it does not send the form off.
      onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
      disabled={disabled ?? false}
      status={status(invalid)}
      aria-describedby={describedBy}
      onChange={(next) =>
        onChange(next ? (day ? dayOf(next.format("YYYY-MM-DD")) : next.toISOString()) : null)
      }
    />
  );
}

/** A time on the wall, in the zone that another field names. */
function LocalTimeInput({ id, value, disabled, invalid, describedBy, onChange }: InputProps) {
  return (
    <DatePicker
      id={id}
      style={{ width: "100%" }}
      showTime={{ format: "HH:mm", minuteStep: 5 }}
      format="YYYY-MM-DD HH:mm"
      value={value ? dayjs(String(value)) : null}
      onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
      disabled={disabled ?? false}
      status={status(invalid)}
      aria-describedby={describedBy}
      onChange={(next) => onChange(next ? next.format("YYYY-MM-DDTHH:mm") : null)}
    />
  );
}

const CURRENCIES = ["CNY", "USD", "EUR", "HKD", "JPY", "GBP"];

/** Keeps what is typed while one types; what leaves the field is an exact decimal string. */
export function MoneyInput({ id, value, disabled, invalid, describedBy, onChange }: InputProps) {
  const { language, t } = useText();
  const money = value as Partial<Money> | null | undefined;
  const currency = money?.currencyCode || "CNY";
  const [typed, setTyped] = useState<string>();
  const leave = () => {
    if (typed === undefined) return;
    const amount = parseAmount(typed, currency);
    if (typed.trim() === "") onChange(null);
    else if (amount !== null) onChange({ currencyCode: currency, amount });
    // What cannot be read stays in the field, where the person sees and mends it.
    if (amount !== null || typed.trim() === "") setTyped(undefined);
  };
  return (
    <Input
      id={id}
      className="money"
      inputMode="decimal"
      value={typed ?? (money?.amount ? formatMoney(money, language).replace(/^[^\d-]+/, "") : "")}
      disabled={disabled ?? false}
      status={status(
        invalid || (typed !== undefined && typed !== "" && parseAmount(typed, currency) === null),
      )}
      aria-describedby={describedBy}
      onChange={(event) => {
        setTyped(event.target.value);
        const amount = parseAmount(event.target.value, currency);
        if (amount !== null) onChange({ currencyCode: currency, amount });
      }}
      onBlur={leave}
      prefix={
        <select
          className="currency"
          aria-label={t("form.currency")}
          value={currency}
          disabled={disabled}
          onChange={(event) => onChange({ currencyCode: event.target.value, amount: money?.amount ?? "" })}
        >
          {[...new Set([currency, ...CURRENCIES])].map((code) => (
            <option key={code}>{code}</option>
          ))}
        </select>
      }
    />
  );
}

/** A nested message: its fields in a box of their own. */
function ObjectInput({ id, field, value, disabled, onChange }: InputProps) {
  const { label } = useText();
  const object = (value as Record<string, unknown> | null | undefined) ?? {};
  return (
    <fieldset className="nested" id={id}>
      <legend className="visually-hidden">{label(field.label)}</legend>
      {field.fields
        .filter((inner) => !inner.readOnly)
        .map((inner) => (
          <div key={inner.name} className="nested-field">
            <FieldLabel id={`${id}.${inner.name}`} field={inner} />
            <FieldInput
              id={`${id}.${inner.name}`}
              field={inner}
              value={object[inner.name]}
              disabled={disabled ?? false}
              onChange={(next) => onChange({ ...object, [inner.name]: next })}
            />
          </div>
        ))}
    </fieldset>
  );
}
