import { HourglassOutlined } from "@ant-design/icons";
import { lazy, Suspense, useState } from "react";
import { useText } from "@/i18n";
import { isRunning, useJobs } from "@/kit/jobs";

const JobsDrawer = lazy(async () => ({ default: (await import("./jobs-drawer")).JobsDrawer }));

/** What runs in the background for this person; it goes on without the page and is here again after a reload. */
export function Jobs() {
  const { t } = useText();
  const [open, setOpen] = useState(false);
  const jobs = useJobs();
  if (!jobs) return null;
  const running = jobs.filter(({ job }) => isRunning(job)).length;
  return (
    <>
      <button
        type="button"
        className="icon-button badge wide"
        aria-label={t("jobs.running", { count: running })}
        onClick={() => setOpen(true)}
      >
        <HourglassOutlined />
        {running > 0 && (
          <span className="badge-count" aria-hidden="true">
            {running}
          </span>
        )}
      </button>
      <Suspense fallback={null}>{open && <JobsDrawer jobs={jobs} onClose={() => setOpen(false)} />}</Suspense>
    </>
  );
}
