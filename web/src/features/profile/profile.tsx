import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Modal } from "antd";
import { useRef, useState } from "react";
import { Link } from "react-router";
import { create, type Json, type RecordJson } from "@/api/client";
import { ApiError } from "@/api/errors";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { fieldsNamed } from "@/kit/columns";
import { Title } from "@/kit/field-value";
import { violationsByField } from "@/kit/form-model";
import { Page } from "@/kit/page";
import { patchOf } from "@/kit/patch";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, recordQuery, titleOf, useResource, useSession } from "@/kit/queries";
import { RecordFields } from "@/kit/record-fields";
import { FormField } from "@/kit/record-form";
import { Loaded, Refused } from "@/kit/states";
import { tell } from "@/kit/toasts";

/** What a customer may ask to have changed; which of it counts at once the service decides. */
const CHANGEABLE = ["displayName", "legalName", "taxId", "phones", "emails", "addresses", "website"];
/** What the company says of itself, as opposed to what is noted about it. */
const OWN = [...CHANGEABLE, "kind", "industry", "preferredChannel", "language", "timeZone"];
/** Of a person of theirs, what is no note of ours. */
const PERSON = ["displayName", "title", "phones", "emails"];
const CHANGE = ["summary", "number", "risk", "state", "createTime"];
const PAGE = 20;

/** The own data of a customer or partner: what is on file, who its people are, and the changes that it asked for. */
export function ProfilePage() {
  const { t, language } = useText();
  const session = useSession();
  const resource = useResource("accounts");
  const changes = useResource("profileChanges");
  const account = useQuery(recordQuery(session.account));
  const [changing, setChanging] = useState(false);
  const own = { ...resource, fields: fieldsNamed(resource.fields, OWN) };
  return (
    <Page
      title={account.data ? titleOf(account.data, resource, language) : t("page.profile")}
      actions={
        account.data &&
        may(session, changes.permissions.create) && (
          <button type="button" className="button button-primary" onClick={() => setChanging(true)}>
            {t("profile.change")}
          </button>
        )
      }
    >
      <div className="stack">
        <section className="card">
          <div className="card-head">
            <h2>{t("page.profile")}</h2>
          </div>
          <div className="card-body">
            <Loaded query={account}>{(record) => <RecordFields resource={own} record={record} />}</Loaded>
          </div>
        </section>
        <Related collection="contacts" title={t("profile.people")} show={PERSON} />
        <Related collection="profileChanges" title={t("profile.changes")} show={CHANGE} />
      </div>
      {changing && account.data && <Change account={account.data} onClose={() => setChanging(false)} />}
    </Page>
  );
}

/** Whatever of the collection this person sees: all of it is the account's. */
function Related({ collection, title, show }: { collection: string; title: string; show: string[] }) {
  const { t, label, plural } = useText();
  const resource = useResource(collection);
  const pages = useInfiniteQuery(pagesQuery(collection, { orderBy: "createTime desc", pageSize: PAGE }));
  return (
    <section className="card">
      <div className="card-head">
        <h2>{title}</h2>
      </div>
      <div className="card-body">
        <PagedTable
          caption={title}
          pages={pages}
          lines={3}
          none={<p className="faint">{t("list.none", { what: plural(resource.label).toLowerCase() })}</p>}
          columns={fieldsNamed(resource.fields, show).map((field, index) => ({
            ...columnOf(field, label),
            ...(index === 0
              ? {
                  cell: (record: RecordJson) => (
                    <Link to={`/${record.name}`}>
                      <Title record={record} resource={resource} />
                    </Link>
                  ),
                }
              : {}),
          }))}
        />
      </div>
    </section>
  );
}

function Change({ account, onClose }: { account: RecordJson; onClose: () => void }) {
  const { t } = useText();
  const fields = fieldsNamed(useResource("accounts").fields, CHANGEABLE);
  const [values, setValues] = useState<Json>(account);
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const attempt = useRef<{ body: string; key: string }>(undefined);
  const submit = async () => {
    const patch = patchOf(
      account,
      values,
      fields.map(({ name }) => name),
    );
    if (Object.keys(patch).length === 0) return setFailure(t("profile.nothing"));
    const content = JSON.stringify(patch);
    if (attempt.current?.body !== content) attempt.current = { body: content, key: crypto.randomUUID() };
    setBusy(true);
    try {
      await create("profileChanges", { patch }, attempt.current.key);
      tell(t("profile.sent"));
      onClose();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { byField, others } = violationsByField(error.violations, fields);
      setErrors(byField);
      setFailure(others.length > 0 || Object.keys(byField).length > 0 ? others.join(" ") : error.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Modal
      open
      title={t("profile.change")}
      okText={t("profile.change")}
      okButtonProps={{ loading: busy }}
      cancelText={t("action.cancel")}
      onOk={() => void submit()}
      onCancel={onClose}
    >
      <div className="stack">
        <p>{t("profile.changeText")}</p>
        <Refused>{failure}</Refused>
        {fields.map((field) => (
          <FormField
            key={field.name}
            id={`profile-${field.name}`}
            field={field}
            value={values[field.name]}
            error={errors[field.name]}
            onChange={(name, value) => {
              setFailure("");
              setValues((before) => ({ ...before, [name]: value }));
              setErrors(({ [name]: _, ...others }) => others);
            }}
          />
        ))}
      </div>
    </Modal>
  );
}
