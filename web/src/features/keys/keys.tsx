import { CopyOutlined, PlusOutlined } from "@ant-design/icons";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Drawer, Modal } from "antd";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { defaultColumns } from "@/kit/columns";
import { Page } from "@/kit/page";
import { columnOf, PagedTable } from "@/kit/plain-table";
import { pagesQuery, useResource, useSession } from "@/kit/queries";
import { RecordForm } from "@/kit/record-form";
import { Empty } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { VerbBar } from "@/kit/verbs";

const SECRET_FIELDS = ["secret", "key", "token"];

/** Keys for other systems. The secret is shown once, right after it was made, and never again. */
export function KeysPage() {
  const { t, label, noun } = useText();
  const session = useSession();
  const resource = useResource("apiKeys");
  const pages = useInfiniteQuery(pagesQuery("apiKeys", { orderBy: "createTime desc", pageSize: 50 }));
  const [creating, setCreating] = useState(false);
  const [made, setMade] = useState<RecordJson>();
  const secret =
    made &&
    SECRET_FIELDS.map((field) => made[field]).find((value) => typeof value === "string" && value !== "");

  return (
    <Page
      title={t("page.keys")}
      note={<p className="faint">{t("keys.text")}</p>}
      actions={
        resource.has.create && may(session, resource.permissions.create) ? (
          <button type="button" className="button button-primary" onClick={() => setCreating(true)}>
            <PlusOutlined aria-hidden="true" /> {t("form.newTitle", { what: noun(resource.label) })}
          </button>
        ) : null
      }
    >
      <section className="card card-body">
        <PagedTable
          caption={t("page.keys")}
          pages={pages}
          none={<Empty title={t("keys.none")} />}
          columns={[
            ...defaultColumns(resource)
              .filter((field) => !SECRET_FIELDS.includes(field.name))
              .map((field) => columnOf(field, label)),
            {
              key: "verbs",
              title: t("action.more"),
              hidden: true,
              cell: (record) => (
                <span className="row">
                  <VerbBar resource={resource} record={record} />
                </span>
              ),
            },
          ]}
        />
      </section>
      {creating && (
        <Drawer
          open
          size={560}
          title={t("form.newTitle", { what: noun(resource.label) })}
          onClose={() => setCreating(false)}
        >
          <RecordForm
            resource={resource}
            quick
            onCancel={() => setCreating(false)}
            onSaved={(record) => {
              setCreating(false);
              setMade(record);
            }}
          />
        </Drawer>
      )}
      {typeof secret === "string" && (
        <Modal
          open
          closable={false}
          title={t("keys.made")}
          footer={
            <button type="button" className="button button-primary" onClick={() => setMade(undefined)}>
              {t("keys.kept")}
            </button>
          }
        >
          <p>{t("keys.madeText")}</p>
          <p className="row secret">
            <code>{secret}</code>
            <button
              type="button"
              className="icon-button"
              aria-label={t("action.copy")}
              onClick={() => void navigator.clipboard.writeText(secret).then(() => tell(t("action.copied")))}
            >
              <CopyOutlined />
            </button>
          </p>
        </Modal>
      )}
    </Page>
  );
}
