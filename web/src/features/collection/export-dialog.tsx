import { useQuery } from "@tanstack/react-query";
import { Input, Modal, Select } from "antd";
import { useState } from "react";
import type { Field, Resource } from "@/api/catalogue";
import { create, list } from "@/api/client";
import { downloadUrl } from "@/api/files";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useDictionary } from "@/kit/dictionary";
import { useCatalogue, useSession, type ListSpec } from "@/kit/queries";
import { ErrorNote } from "@/kit/states";
import { tell } from "@/kit/toasts";

interface Props {
  resource: Resource;
  columns: Field[];
  spec: ListSpec;
  onClose: () => void;
}

const RECENT = 5;
const REFRESH = 3000;

/** Asks for the rows that the list shows, with its columns, for a purpose; and gives out what is ready. */
export function ExportDialog({ resource, columns, spec, onClose }: Props) {
  const { t, label, plural, comma } = useText();
  const [error, setError] = useState<unknown>();
  const [format, setFormat] = useState("XLSX");
  const [purpose, setPurpose] = useState<string>();
  const [words, setWords] = useState("");
  const [asking, setAsking] = useState(false);
  const purposes = useDictionary("export_purposes");
  const session = useSession();
  const exports = useCatalogue().find("exports");
  const allowed = exports !== undefined && may(session, exports.permissions.create);
  const query = {
    filter: `collection = "${resource.collection}" AND owner = me`,
    orderBy: "createTime desc",
    pageSize: RECENT,
  };
  const mine = useQuery({
    queryKey: ["list", "exports", "mine", resource.collection],
    queryFn: ({ signal }) => list("exports", query, signal),
    enabled: allowed,
    refetchInterval: REFRESH,
  });

  /** The server writes the file: all rows that one may export, once they are counted and, where need be, decided. */
  const start = async () => {
    setError(undefined);
    setAsking(true);
    try {
      await create("exports", {
        collection: resource.collection,
        filter: spec.filter,
        q: spec.q,
        orderBy: spec.orderBy,
        fields: columns.map((column) => column.name),
        format,
        purpose,
        purposeText: words,
      });
    } catch (failure) {
      return setError(failure);
    } finally {
      setAsking(false);
    }
    tell(t("export.started"), "info", { detail: t("export.startedText") });
    onClose();
  };

  return (
    <Modal
      open
      title={t("action.export")}
      okText={t("export.run")}
      cancelText={t("action.cancel")}
      okButtonProps={{ loading: asking, disabled: !allowed || purpose === undefined }}
      onOk={() => void start()}
      onCancel={onClose}
    >
      <div className="stack">
        <p>
          {t("export.text", {
            what: plural(resource.label),
            columns: columns.map((column) => label(column.label)).join(comma),
          })}
        </p>
        <div className="form-field">
          <label htmlFor="export-purpose">{t("export.purpose")}</label>
          <Select id="export-purpose" value={purpose} onChange={setPurpose} options={purposes} />
        </div>
        <div className="form-field">
          <label htmlFor="export-words">{t("export.words")}</label>
          <Input.TextArea
            id="export-words"
            value={words}
            maxLength={500}
            rows={2}
            onChange={(event) => setWords(event.target.value)}
          />
        </div>
        <div className="form-field">
          <label htmlFor="export-format">{t("export.format")}</label>
          <Select
            id="export-format"
            value={format}
            onChange={setFormat}
            options={["XLSX", "CSV"].map((value) => ({ value, label: t(`export.as.${value}`) }))}
          />
        </div>
        {error !== undefined && <ErrorNote error={error} />}
        {mine.data !== undefined && mine.data.records.length > 0 && (
          <ul aria-label={t("export.mine")}>
            {mine.data.records.map((one) => (
              <li key={one.name}>
                {one["state"] === "READY" ? (
                  <a href={downloadUrl(one.name)}>{String(one["fileName"])}</a>
                ) : (
                  <span>{`${String(one["number"] ?? "")} ${stateOf(one["state"])}`}</span>
                )}
              </li>
            ))}
          </ul>
        )}
      </div>
    </Modal>
  );

  function stateOf(state: unknown): string {
    const choice = exports?.fields
      .find((field) => field.name === "state")
      ?.choices.find((one) => one.value === state);
    return choice ? label(choice.label) : "";
  }
}
