import { useInfiniteQuery } from "@tanstack/react-query";
import { downloadUrl } from "@/api/files";
import { isOutside, may } from "@/api/session";
import { useText } from "@/i18n";
import { formatBytes } from "./bytes";
import { formatInstant } from "./dates";
import { Reference } from "./field-value";
import { quote } from "./filter";
import { PagedTable } from "./plain-table";
import { pagesQuery, useResource, useSession } from "./queries";
import { UploadButton } from "./upload-button";

const PAGE = 20;

/** The files that hang on a record, as a proof of payment does; whoever reads the record reads them. */
export function Attachments({ name }: { name: string }) {
  const { t, language, plural } = useText();
  const session = useSession();
  const resource = useResource("files");
  const pages = useInfiniteQuery(
    pagesQuery("files", {
      filter: `attachedTo:${quote(name)}`,
      orderBy: "createTime desc",
      pageSize: PAGE,
    }),
  );
  return (
    <section className="card">
      <div className="card-head">
        <h2>{plural(resource.label)}</h2>
        <span className="grow" />
        {may(session, resource.permissions.create) && (
          <UploadButton many attachedTo={name} onStored={() => void pages.refetch()} />
        )}
      </div>
      <div className="card-body">
        <PagedTable
          caption={plural(resource.label)}
          pages={pages}
          lines={3}
          none={<p className="faint">{t("record.noFiles")}</p>}
          columns={[
            {
              key: "name",
              title: t("documents.name"),
              row: true,
              cell: (file) => (
                <a href={downloadUrl(file.name)} download>
                  {String(file["displayName"] ?? "")}
                </a>
              ),
            },
            {
              key: "size",
              title: t("documents.size"),
              number: true,
              cell: (file) => formatBytes(Number(file["size"] ?? 0), language),
            },
            ...(isOutside(session)
              ? []
              : [
                  {
                    key: "owner",
                    title: t("documents.by"),
                    cell: (file: Record<string, unknown>) => (
                      <Reference name={String(file["owner"] ?? "")} link={false} />
                    ),
                  },
                ]),
            {
              key: "time",
              title: t("documents.time"),
              cell: (file) => formatInstant(String(file["createTime"] ?? ""), language),
            },
          ]}
        />
      </div>
    </section>
  );
}
