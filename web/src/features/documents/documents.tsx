import { FolderOutlined } from "@ant-design/icons";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { Link, useSearchParams } from "react-router";
import { downloadUrl } from "@/api/files";
import { act, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatBytes } from "@/kit/bytes";
import { formatRelative } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { quote } from "@/kit/filter";
import { gotQuery } from "@/kit/got";
import { MorePages } from "@/kit/more-pages";
import { Page } from "@/kit/page";
import { pagesQuery, recordQuery, recordsOf, useResource, useSession } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { useSettled } from "@/kit/settled";
import { Empty, Loaded, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { UploadButton } from "@/kit/upload-button";
import { messageOf } from "@/kit/verbs";

type Found = Schema<"workspace.SearchFilesResponse">;

const PAGE = 200;
const at = (folder: string) => (folder ? `/documents?folder=${encodeURIComponent(folder)}` : "/documents");

/** Folders, what lies in the chosen one, and what is found in names and texts. */
export function DocumentsPage() {
  const { t } = useText();
  const session = useSession();
  const folders = useResource("folders");
  const [params, setParams] = useSearchParams();
  const folder = params.get("folder") ?? "";
  const [typed, setTyped] = useState(params.get("q") ?? "");
  const q = useSettled(typed.trim());
  const all = useInfiniteQuery(pagesQuery("folders", { orderBy: "displayName", pageSize: PAGE }));
  const known = recordsOf(all);
  return (
    <Page
      title={t("page.documents")}
      actions={
        may(session, folders.permissions.create) && (
          <Link className="button" to="/folders/new">
            {t("documents.newFolder")}
          </Link>
        )
      }
    >
      <div className="stack">
        <SearchField
          label={t("documents.search")}
          value={typed}
          onChange={(value) => {
            setTyped(value);
            setParams(
              (before) => {
                before.set("q", value);
                return before;
              },
              { replace: true },
            );
          }}
        />
        <div className="split">
          <nav className="card card-body" aria-label={t("documents.folders")}>
            {all.isPending ? (
              <Skeleton />
            ) : known.length === 0 ? (
              <p className="faint">{t("documents.noFolders")}</p>
            ) : (
              <Below above="" folders={known} chosen={folder} />
            )}
            <MorePages pages={all} className="link" />
          </nav>
          {q ? <Hits q={q} folder={folder} /> : folder ? <Contents name={folder} /> : <Newest />}
        </div>
      </div>
    </Page>
  );
}

function Below({ above, folders, chosen }: { above: string; folders: RecordJson[]; chosen: string }) {
  // What lies in a folder that one does not read stands at the top.
  const names = new Set(folders.map(({ name }) => name));
  const here = folders.filter((one) => {
    const parent = String(one["parent"] ?? "");
    return above ? parent === above : !names.has(parent);
  });
  if (here.length === 0) return null;
  return (
    <ul className="folders">
      {here.map((one) => (
        <li key={one.name}>
          <Link to={at(one.name)} aria-current={one.name === chosen ? "page" : undefined}>
            <FolderOutlined aria-hidden="true" /> {String(one["displayName"])}
          </Link>
          <Below above={one.name} folders={folders} chosen={chosen} />
        </li>
      ))}
    </ul>
  );
}

/** What was put into any folder last. */
function Newest() {
  const { t } = useText();
  return (
    <section className="card">
      <div className="card-head">
        <h2>{t("documents.newest")}</h2>
      </div>
      <Files filter={'folder != ""'} />
    </section>
  );
}

function Contents({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  const files = useResource("files");
  const folder = useQuery(recordQuery(name));
  const put = async (stored: string[]) => {
    try {
      for (const file of stored) await act(file, "move", { folder: name });
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  return (
    <Loaded query={folder}>
      {(record) => (
        <section className="card">
          <div className="card-head">
            <h2>{String(record["path"]).split("\n").join(" / ")}</h2>
            <span className="grow" />
            <Link className="button" to={`/${name}`}>
              {t("documents.about")}
            </Link>
            <Link className="button" to={`/folders/new?parent=${encodeURIComponent(name)}`}>
              {t("documents.newFolder")}
            </Link>
            {may(session, files.permissions.create) && (
              <UploadButton many onStored={(stored) => void put(stored)} />
            )}
          </div>
          <Files filter={`folder = ${quote(name)}`} />
        </section>
      )}
    </Loaded>
  );
}

function Files({ filter }: { filter: string }) {
  const { t, language } = useText();
  const pages = useInfiniteQuery(pagesQuery("files", { filter, orderBy: "updateTime desc", pageSize: 50 }));
  const files = recordsOf(pages);
  return (
    <Loaded query={pages}>
      {() => (
        <>
          {files.length === 0 && <Empty title={t("documents.none")} text={t("documents.noneText")} />}
          <ul className="inbox">
            {files.map((file) => (
              <Document key={file.name} file={file}>
                <span className="faint">
                  {formatBytes(Number(file["size"] ?? 0), language)} ·{" "}
                  <Reference name={String(file["owner"] ?? "")} link={false} /> ·{" "}
                  {formatRelative(String(file["updateTime"]), language)}
                </span>
              </Document>
            ))}
          </ul>
          <MorePages pages={pages} className="link" />
        </>
      )}
    </Loaded>
  );
}

function Document({ file, children }: { file: RecordJson; children: ReactNode }) {
  const { t } = useText();
  const version = Number(file["versionNumber"] ?? 1);
  return (
    <li className="card-body">
      <div className="grow stack-tight">
        <span>
          <Link to={`/${file.name}`}>{String(file["displayName"])}</Link>{" "}
          {version > 1 && <span className="tag">{t("documents.version", { version })}</span>}{" "}
          {Boolean(file["legalHold"]) && <span className="tag tag-warn">{t("documents.held")}</span>}
        </span>
        {children}
      </div>
      <a className="button" href={downloadUrl(file.name)} download>
        {t("documents.download")}
      </a>
    </li>
  );
}

/** Files that have the words in their name or text. */
function Hits({ q, folder }: { q: string; folder: string }) {
  const { t } = useText();
  const asked = new URLSearchParams({ q, ...(folder ? { folder } : {}), pageSize: "50" });
  const found = useQuery(
    gotQuery<Found>(["list", "files", "search", q, folder], `/v1/files:search?${asked}`),
  );
  return (
    <section className="card" aria-label={t("documents.found")}>
      <Loaded query={found}>
        {({ hits = [], nextPageToken }) => (
          <>
            {hits.length === 0 && <Empty title={t("documents.notFound", { q })} />}
            <ul className="inbox">
              {hits.map(({ file, fragment }) => (
                <Document key={file?.name} file={file as RecordJson}>
                  {fragment && <p className="faint cut">{marked(fragment, q)}</p>}
                </Document>
              ))}
            </ul>
            {nextPageToken && <p className="card-body faint">{t("documents.more")}</p>}
          </>
        )}
      </Loaded>
    </section>
  );
}

/** The words stand out where they are. */
function marked(fragment: string, q: string): ReactNode {
  const start = fragment.toLowerCase().indexOf(q.toLowerCase());
  if (start < 0) return fragment;
  const end = start + q.length;
  return (
    <>
      {fragment.slice(0, start)}
      <mark>{fragment.slice(start, end)}</mark>
      {fragment.slice(end)}
    </>
  );
}
