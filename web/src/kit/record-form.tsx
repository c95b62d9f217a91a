import { Alert } from "antd";
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState, type FormEvent } from "react";
import { ADVICE } from "@/advice";
import { useBlocker } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import { create, get, update, type Json, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import { useText } from "@/i18n";
import { merge, type Conflict } from "./conflict";
import { ConflictDialog } from "./conflict-dialog";
import { Instead } from "./instead";
import { dropDraft, readDraft, writeDraft, type Draft } from "./drafts";
import { FieldInput } from "./field-input";
import { FieldLabel } from "./field-label";
import { editableFields, isShown, missingFields, sectionsOf, violationsByField } from "./form-model";
import { formatRelative } from "./dates";
import { LeaveDialog } from "./leave-dialog";
import { bodyOf, patchOf, same } from "./patch";
import { useSession } from "./queries";
import { screenOf } from "@/resources";
import { tell } from "./toasts";

interface Props {
  resource: Resource;
  /** The record to change; without one the form makes a new one. */
  record?: RecordJson;
  initial?: Json;
  /** Only the fields of quick create, until "more fields". */
  quick?: boolean;
  /** A second way to save, after which more is done: "send". */
  further?: string;
  onSaved: (record: RecordJson, further: boolean) => void;
  onCancel: () => void;
  cancelLabel?: string;
}

const DRAFT_MS = 1_000;

export function RecordForm({
  resource,
  record,
  initial,
  quick = false,
  further,
  onSaved,
  onCancel,
  cancelLabel,
}: Props) {
  const { t, label, language } = useText();
  const session = useSession();
  const creating = record === undefined;
  const Advice = pieces[screenOf(resource.collection).advice ?? ""];
  const subject = record?.name ?? `${resource.collection}.new`;
  const fields = useMemo(() => editableFields(resource, creating), [resource, creating]);
  const names = useMemo(() => fields.map((field) => field.name), [fields]);

  const [base, setBase] = useState<Json>(() => record ?? {});
  const [values, setValues] = useState<Json>(() => ({ ...initial, ...record }));
  const [started] = useState<Json>(() => ({ ...initial, ...record }));
  const [short, setShort] = useState(quick);
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [others, setOthers] = useState<string[]>([]);
  const [refusal, setRefusal] = useState<ApiError>();
  const [saving, setSaving] = useState(false);
  const [conflict, setConflict] = useState<{ conflicts: Conflict[]; merged: Json; theirs: RecordJson }>();
  const [draft, setDraft] = useState<Draft | null>(() => readDraft(session.employee, subject));
  const saved = useRef(false);
  const goesOn = useRef(false);
  const attempt = useRef<{ body: string; key: string }>(undefined);
  const form = useRef<HTMLFormElement>(null);

  const dirty = names.some((name) => !same(values[name], started[name]));
  const blocker = useBlocker(
    ({ currentLocation, nextLocation }) =>
      dirty && !quick && !saved.current && currentLocation.pathname !== nextLocation.pathname,
  );

  useEffect(() => {
    if (!dirty || saved.current) return;
    const timer = setTimeout(
      () => writeDraft(session.employee, subject, { values, base, time: new Date().toISOString() }),
      DRAFT_MS,
    );
    return () => clearTimeout(timer);
  }, [dirty, values, base, session.employee, subject]);

  const change = useCallback((name: string, value: unknown) => {
    setValues((before) => ({ ...before, [name]: value }));
    setErrors(({ [name]: _, ...rest }) => rest);
  }, []);

  const shown = fields.filter((field) => isShown(resource, field, values));
  const visible = short ? shown.filter((field) => field.quick || field.required) : shown;

  const showErrors = (next: Record<string, string>, rest: string[]) => {
    setErrors(next);
    setOthers(rest);
    requestAnimationFrame(() =>
      form.current
        ?.querySelector<HTMLElement>("[data-invalid] input, [data-invalid] textarea, .summary")
        ?.focus(),
    );
  };

  const save = async (mine: Json, since: Json): Promise<void> => {
    const missing = missingFields(shown, mine);
    if (missing.length > 0) {
      if (missing.some((field) => !visible.includes(field))) setShort(false);
      return showErrors(Object.fromEntries(missing.map((field) => [field.name, t("form.required")])), []);
    }
    const body = creating ? bodyOf(mine, names) : patchOf(since, mine, names);
    if (!creating && Object.keys(body).length === 0) return finish(record);
    // The same content keeps its key, so that a lost answer never makes a second record.
    const content = JSON.stringify(body);
    if (attempt.current?.body !== content) attempt.current = { body: content, key: crypto.randomUUID() };
    setSaving(true);
    setRefusal(undefined);
    try {
      finish(
        creating
          ? await create(resource.collection, body, attempt.current.key)
          : await update(record.name, body, since["etag"] as string, attempt.current.key),
      );
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 412 && record) return await resolveConflict(mine, since);
      setRefusal(error);
      const { byField, others: rest } = violationsByField(error.violations, fields);
      if (Object.keys(byField).some((name) => !visible.some((field) => field.name === name))) setShort(false);
      showErrors(byField, rest.length > 0 || Object.keys(byField).length > 0 ? rest : [error.message]);
    } finally {
      setSaving(false);
    }
  };

  const finish = (result: RecordJson) => {
    saved.current = true;
    attempt.current = undefined;
    dropDraft(session.employee, subject);
    if (!creating && !goesOn.current) tell(t("form.saved"));
    onSaved(result, goesOn.current);
  };

  const resolveConflict = async (mine: Json, since: Json) => {
    if (!record) return;
    const theirs = await get(record.name);
    const outcome = merge(since, mine, theirs, names);
    if (outcome.conflicts.length > 0) return setConflict({ ...outcome, theirs });
    tell(t("conflict.merged"), "info");
    setBase(theirs);
    setValues(outcome.merged);
    await save(outcome.merged, theirs);
  };

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (saving) return;
    goesOn.current = (event.nativeEvent as SubmitEvent).submitter?.hasAttribute("data-further") === true;
    void save(values, base);
  };

  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
      event.preventDefault();
      form.current?.requestSubmit();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  const adviceBelow = screenOf(resource.collection).adviceBelow === true;
  const advice = Advice && (
    <Suspense fallback={null}>
      <Advice
        values={values}
        put={(given) => Object.entries(given).forEach(([name, value]) => change(name, value))}
      />
    </Suspense>
  );

  return (
    <form
      ref={form}
      className={quick ? "form form-narrow" : "form"}
      onSubmit={submit}
      noValidate
      aria-busy={saving}
    >
      {draft && !dirty && (
        <Alert
          type="info"
          showIcon
          title={t("form.draftFound", { time: formatRelative(draft.time, language) })}
          action={
            <span className="row">
              <button
                type="button"
                className="button"
                onClick={() => {
                  setValues({ ...started, ...draft.values });
                  setBase(record ? draft.base : {});
                  setDraft(null);
                }}
              >
                {t("form.draftRestore")}
              </button>
              <button
                type="button"
                className="link"
                onClick={() => {
                  dropDraft(session.employee, subject);
                  setDraft(null);
                }}
              >
                {t("form.draftDrop")}
              </button>
            </span>
          }
        />
      )}
      {(others.length > 0 || Object.keys(errors).length > 0) && (
        <div className="note note-bad summary" role="alert" tabIndex={-1}>
          <strong>{t("form.errors")}</strong>
          <ul>
            {others.map((text) => (
              <li key={text}>{text}</li>
            ))}
            {Object.entries(errors).map(([name, text]) => (
              <li key={name}>
                <a href={`#${fieldId(subject, name)}`}>
                  {label(fields.find((field) => field.name === name)?.label ?? { zh: name, en: name })}
                </a>
                ：{text}
              </li>
            ))}
          </ul>
          {refusal && <Instead collection={resource.collection} values={values} refusal={refusal} />}
        </div>
      )}
      {!adviceBelow && advice}
      {sectionsOf(visible).map((section) => (
        <section key={section.key} className="form-section">
          {!short && <h2>{t(`form.section.${section.key}`)}</h2>}
          <div className={["main", "more", "custom"].includes(section.key) ? "form-grid" : "stack"}>
            {section.fields.map((field) => (
              <FormField
                key={field.name}
                id={fieldId(subject, field.name)}
                field={field}
                value={values[field.name]}
                error={errors[field.name]}
                onChange={change}
              />
            ))}
          </div>
        </section>
      ))}
      {adviceBelow && advice}
      {short && shown.length > visible.length && (
        <button type="button" className="link" onClick={() => setShort(false)}>
          {t("form.more")}
        </button>
      )}
      <div className="form-actions">
        {further && (
          <button type="submit" data-further className="button button-primary" disabled={saving}>
            {further}
          </button>
        )}
        <button type="submit" className={further ? "button" : "button button-primary"} disabled={saving}>
          {saving ? t("form.saving") : t("action.save")}
        </button>
        <button type="button" className="button" onClick={onCancel}>
          {cancelLabel ?? t("action.cancel")}
        </button>
      </div>
      {conflict && (
        <ConflictDialog
          resource={resource}
          conflicts={conflict.conflicts}
          onEdit={() => {
            setBase(conflict.theirs);
            setValues(conflict.merged);
            setConflict(undefined);
          }}
          onResolve={(choices) => {
            const merged = { ...conflict.merged, ...choices };
            setBase(conflict.theirs);
            setValues(merged);
            setConflict(undefined);
            void save(merged, conflict.theirs);
          }}
        />
      )}
      {blocker.state === "blocked" && (
        <LeaveDialog onLeave={() => blocker.proceed()} onStay={() => blocker.reset()} />
      )}
    </form>
  );
}

const pieces = Object.fromEntries(Object.entries(ADVICE).map(([key, load]) => [key, lazy(load)]));

const fieldId = (subject: string, name: string) => `f-${subject.replaceAll("/", "-")}-${name}`;

interface FormFieldProps {
  id: string;
  field: Field;
  value: unknown;
  error: string | undefined;
  onChange: (name: string, value: unknown) => void;
}

export function FormField({ id, field, value, error, onChange }: FormFieldProps) {
  return (
    <div className="form-field" data-invalid={error ? "" : undefined}>
      <FieldLabel id={id} field={field} />
      <FieldInput
        id={id}
        field={field}
        value={value}
        invalid={Boolean(error)}
        describedBy={error ? `${id}-error` : undefined}
        onChange={(next) => onChange(field.name, next)}
      />
      {error && (
        <p className="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}
