import { DownOutlined } from "@ant-design/icons";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Modal } from "antd";
import { useRef, useState, type ReactNode } from "react";
import type { Resource, Verb } from "@/api/catalogue";
import { act, type Json, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { violationsByField } from "./form-model";
import { MenuButton } from "./menu-button";
import { bodyOf, isBlank } from "./patch";
import { FormField } from "./record-form";
import { recordQuery, useSession } from "./queries";
import { tell } from "./toasts";
import { Refused } from "./states";
import { newest } from "./written";

/** Verbs that cannot be taken back say so before they act. */
const FINAL =
  /^(purge|delete|void|cancel|archive|erase|terminate|lose|revoke|revert|reject|disqualify|close|end|leave|suspend)/;
const BUTTONS = 3;

interface Props {
  resource: Resource;
  record: RecordJson;
  extra?: { key: string; label: string; danger?: boolean; run: () => void }[];
  /** Stands between the buttons and the menu: "edit". */
  children?: ReactNode;
  /** Another button on the page is the one that matters most. */
  second?: boolean;
}

/** The verbs of a record: those of its state as buttons, the rest in the menu. */
export function VerbBar({ resource, record, extra = [], children, second = false }: Props) {
  const { t, label } = useText();
  const session = useSession();
  const run = useVerb();
  const [open, setOpen] = useState<Verb>();
  const { flow, reserved, asksFirst } = screenOf(resource.collection);
  const isFor = (verb: Verb) => {
    const fields = reserved?.[verb.name];
    return fields === undefined || [fields].flat().some((field) => record[field] === session.employee);
  };
  const verbs = resource.verbs.filter(
    (verb) => verb.onRecord && may(session, verb.permission) && isFor(verb),
  );
  const first = flow?.[String(record["state"] ?? "")] ?? [];
  const buttons = flow
    ? first.flatMap((name) => verbs.find((verb) => verb.name === name) ?? [])
    : verbs.slice(0, BUTTONS);
  const rest = verbs.filter((verb) => !buttons.includes(verb));

  const start = (verb: Verb) => {
    if (verb.fields.length > 0 || FINAL.test(verb.name) || asksFirst?.includes(verb.name)) setOpen(verb);
    else run(record, verb, {}).catch((error: unknown) => tell(messageOf(error), "bad"));
  };

  return (
    <>
      {buttons.map((verb, index) => (
        <button
          key={verb.name}
          type="button"
          className={`button ${index === 0 && !second ? "button-primary" : ""}`}
          data-verb={verb.name}
          onClick={() => start(verb)}
        >
          {label(verb.label)}
        </button>
      ))}
      {children}
      {(rest.length > 0 || extra.length > 0) && (
        <MenuButton
          className="button"
          items={[
            ...rest.map((verb) => ({
              key: verb.name,
              label: label(verb.label),
              danger: FINAL.test(verb.name),
              run: () => start(verb),
            })),
            ...extra.map((item, index) => ({ ...item, apart: index === 0 && rest.length > 0 })),
          ]}
        >
          {t("action.more")} <DownOutlined aria-hidden="true" />
        </MenuButton>
      )}
      {open && <VerbDialog record={record} verb={open} onClose={() => setOpen(undefined)} />}
    </>
  );
}

/** Calls a verb with the newest etag that this page knows; the same click never counts twice. */
export function useVerb() {
  const { t, label } = useText();
  const client = useQueryClient();
  const running = useRef(new Map<string, Promise<RecordJson>>());
  return (record: RecordJson, verb: Verb, body: Json): Promise<RecordJson> => {
    const id = `${record.name}:${verb.name}`;
    const before = running.current.get(id);
    if (before) return before;
    const kept = client.getQueryData<RecordJson>(["record", record.name]);
    const call = act(record.name, verb.name, body, newest(kept, record)?.etag, crypto.randomUUID())
      .then((result) => {
        const held = !isBlank(result["pendingApproval"]);
        tell(t(held ? "verb.held" : "verb.done", { verb: label(verb.label) }), held ? "info" : "good");
        return result;
      })
      .finally(() => running.current.delete(id));
    running.current.set(id, call);
    return call;
  };
}

export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

interface DialogProps {
  record: RecordJson;
  verb: Verb;
  initial?: Json;
  /** What goes along without being asked for. */
  given?: Json;
  onClose: (result?: RecordJson) => void;
}

/** The parameters of a verb as a form made from its request. */
export function VerbDialog({ record, verb, initial = {}, given = {}, onClose }: DialogProps) {
  const { t, label } = useText();
  const run = useVerb();
  // Lists are asked again every two seconds at most; who acts does so on the record of this moment.
  const current = useQuery({ ...recordQuery(record.name), refetchOnMount: "always" });
  const [values, setValues] = useState<Json>(initial);
  // A decision counts for what was shown: the digest of it goes along too.
  const along = { digest: record["digest"], ...given };
  const asked = verb.fields.filter(({ name }) => !Object.hasOwn(along, name));
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);

  const submit = async () => {
    const missing = asked.filter((field) => field.required && isBlank(values[field.name]));
    if (missing.length > 0)
      return setErrors(Object.fromEntries(missing.map((field) => [field.name, t("form.required")])));
    setBusy(true);
    try {
      if (current.isFetching) await current.refetch({ cancelRefetch: false });
      onClose(
        await run(
          record,
          verb,
          bodyOf(
            { ...values, ...along },
            verb.fields.map((field) => field.name),
          ),
        ),
      );
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { byField, others } = violationsByField(error.violations, verb.fields);
      setErrors(byField);
      setFailure(others.length > 0 ? others.join(" ") : Object.keys(byField).length > 0 ? "" : error.message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Modal
      open
      title={label(verb.label)}
      okText={label(verb.label)}
      okButtonProps={{ danger: FINAL.test(verb.name), loading: busy }}
      cancelText={t("action.cancel")}
      onOk={() => void submit()}
      onCancel={() => onClose()}
    >
      <div className="stack">
        {asked.length === 0 && <p>{t("verb.confirm", { verb: label(verb.label) })}</p>}
        <Refused>{failure}</Refused>
        {asked.map((field) => (
          <FormField
            key={field.name}
            id={`verb-${field.name}`}
            field={field}
            value={values[field.name]}
            error={errors[field.name]}
            onChange={(name, value) => {
              setValues((before) => ({ ...before, [name]: value }));
              setErrors(({ [name]: _, ...others }) => others);
            }}
          />
        ))}
      </div>
    </Modal>
  );
}
