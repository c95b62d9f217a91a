import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { act, type RecordJson } from "@/api/client";
import { downloadUrl } from "@/api/files";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatBytes } from "@/kit/bytes";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { PlainTable } from "@/kit/plain-table";
import { useResource, useSession } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { UploadButton } from "@/kit/upload-button";
import { messageOf } from "@/kit/verbs";

type Versions = Schema<"workspace.ListFileVersionsResponse">;

/** A file: its bytes, its versions, and the links by which people outside fetch it. */
export function FilePage({ name }: { name: string }) {
  const { t } = useText();
  return (
    <GenericRecord
      resource={useResource("files")}
      name={name}
      relates={["fileShares"]}
      banner={(file) => <Bytes file={file} />}
      more={(file) => [
        { key: "versions", label: t("documents.versions"), content: <VersionsOf file={file} /> },
      ]}
    />
  );
}

function Bytes({ file }: { file: RecordJson }) {
  const { t } = useText();
  const session = useSession();
  const shares = useResource("fileShares");
  const folder = String(file["folder"] ?? "");
  return (
    <p className="row">
      <a className="button primary" href={downloadUrl(file.name)} download>
        {t("documents.download")}
      </a>
      {may(session, shares.permissions.create) && (
        <Link className="button" to={`/fileShares/new?file=${encodeURIComponent(file.name)}`}>
          {t("documents.share")}
        </Link>
      )}
      {folder && (
        <Link className="button" to={`/documents?folder=${encodeURIComponent(folder)}`}>
          {t("documents.inFolder")}
        </Link>
      )}
      {Boolean(file["legalHold"]) && <span className="tag tag-warn">{t("documents.held")}</span>}
    </p>
  );
}

function VersionsOf({ file }: { file: RecordJson }) {
  const { t, language } = useText();
  const session = useSession();
  const resource = useResource("files");
  const versions = useQuery(
    gotQuery<Versions>(["record", file.name, "versions"], `/v1/${file.name}:versions`),
  );
  const changes = may(session, resource.permissions.update);
  const run = async (verb: string, body: Record<string, unknown>) => {
    try {
      await act(file.name, verb, body, file.etag);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  return (
    <section className="card card-body stack">
      {changes && (
        <div>
          <UploadButton
            many={false}
            onStored={([content]) => void run("newVersion", { content: content ?? "" })}
          />
        </div>
      )}
      <Loaded query={versions}>
        {({ versions: rows = [] }) => (
          <PlainTable
            caption={t("documents.versions")}
            stacked
            rows={rows}
            keyOf={(row) => row.version ?? 0}
            columns={[
              { key: "version", title: t("documents.number"), row: true, cell: (row) => row.version },
              { key: "name", title: t("documents.name"), cell: (row) => row.displayName },
              { key: "note", title: t("documents.note"), cell: (row) => row.note },
              {
                key: "size",
                title: t("documents.size"),
                number: true,
                cell: (row) => formatBytes(Number(row.size ?? 0), language),
              },
              {
                key: "author",
                title: t("documents.by"),
                cell: (row) => <Reference name={row.author ?? ""} link={false} />,
              },
              {
                key: "time",
                title: t("documents.time"),
                cell: (row) => formatInstant(row.createTime ?? "", language),
              },
              {
                key: "acts",
                title: t("action.more"),
                hidden: true,
                cell: (row) => (
                  <>
                    <a href={`${downloadUrl(file.name)}?version=${row.version ?? 0}`} download>
                      {t("documents.download")}
                    </a>{" "}
                    {changes && row.version !== file["versionNumber"] && (
                      <button
                        type="button"
                        className="link"
                        onClick={() => void run("restoreVersion", { version: row.version })}
                      >
                        {t("documents.restore")}
                      </button>
                    )}
                  </>
                ),
              },
            ]}
          />
        )}
      </Loaded>
    </section>
  );
}
