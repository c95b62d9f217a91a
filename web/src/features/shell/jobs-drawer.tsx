import { DownloadOutlined } from "@ant-design/icons";
import { Drawer, Progress } from "antd";
import { Link } from "react-router";
import type { Resource } from "@/api/catalogue";
import type { RecordJson } from "@/api/client";
import { downloadUrl } from "@/api/files";
import { useText } from "@/i18n";
import { formatRelative } from "@/kit/dates";
import { FieldValue } from "@/kit/field-value";
import { isRunning, type Job } from "@/kit/jobs";
import { titleOf } from "@/kit/queries";
import { Empty } from "@/kit/states";
import { VerbBar } from "@/kit/verbs";

const SHOWN = 8;

/** What runs and what has ended, with its files. */
export function JobsDrawer({ jobs, onClose }: { jobs: Job[]; onClose: () => void }) {
  const { t } = useText();
  return (
    <Drawer open size={440} title={t("jobs.title")} onClose={onClose}>
      {jobs.length === 0 ? (
        <Empty title={t("jobs.none")} text={t("jobs.noneText")} />
      ) : (
        <ul className="jobs">
          {jobs.slice(0, SHOWN).map(({ job, resource }) => (
            <JobRow key={job.name} job={job} resource={resource} onFollow={onClose} />
          ))}
        </ul>
      )}
    </Drawer>
  );
}

function JobRow({ job, resource, onFollow }: { job: RecordJson; resource: Resource; onFollow: () => void }) {
  const { t, language } = useText();
  const of = (name: string) => resource.fields.find((field) => field.name === name);
  const [mode, state] = [of("mode") ?? of("kind"), of("state")];
  const total = Number(job["total"] ?? 0);
  const done = Number(job["done"] ?? 0);
  const failed = Number(job["failed"] ?? 0);
  const percent = total > 0 ? Math.min(isRunning(job) ? 99 : 100, Math.floor((done / total) * 100)) : 0;
  const files = [
    { file: job["resultFile"], label: t("jobs.result") },
    { file: job["errorFile"], label: t("import.errorFile") },
  ].filter(({ file }) => typeof file === "string" && file !== "");
  return (
    <li>
      <p className="row">
        <strong className="grow cut">
          {mode && <FieldValue field={mode} value={job[mode.name]} />} ·{" "}
          <Link to={`/${job.name}`} onClick={onFollow}>
            {titleOf(job, resource, language)}
          </Link>
        </strong>
        {state && <FieldValue field={state} value={job["state"]} />}
      </p>
      {isRunning(job) && (
        <Progress percent={percent} size="small" status="active" aria-label={t("jobs.progress")} />
      )}
      <p className="faint">
        {formatRelative(String(job["createTime"]), language)}
        {total > 0 && ` · ${t("jobs.rows", { done, total })}`}
        {failed > 0 && ` · ${t("jobs.failed", { count: failed })}`}
        {Boolean(job["reason"]) && ` · ${String(job["reason"])}`}
      </p>
      <p className="row">
        {files.map(({ file, label }) => (
          <a key={String(file)} className="button" href={downloadUrl(String(file))} download>
            <DownloadOutlined aria-hidden="true" /> {label}
          </a>
        ))}
        {isRunning(job) && <VerbBar resource={resource} record={job} />}
      </p>
    </li>
  );
}
