import { useQuery } from "@tanstack/react-query";
import { Progress } from "antd";
import { useRef, useState } from "react";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Figure } from "@/kit/figure";
import { post } from "@/kit/got";
import { Loaded, Refused } from "@/kit/states";
import { messageOf } from "@/kit/verbs";
import { numberFormat } from "@/kit/formatters";

type Proof = Schema<"workspace.VerifyAuditEntriesResponse">;

const STEP = 5_000;

const prove = (fromSeq: number, limit: number) =>
  post<Proof>("/v1/auditEntries:verify", { fromSeq: String(fromSeq), limit });

/** Whether the chain holds: how far it goes, how far it is sealed, what is missing, and a proof of all of it. */
export function Chain() {
  const { t, language } = useText();
  const number = (value: unknown) => numberFormat(language).format(Number(value ?? 0));
  // One entry is enough to hear where the chain ends.
  const state = useQuery({
    queryKey: ["list", "auditEntries", "chain"],
    queryFn: () => prove(0, 1),
    staleTime: 60_000,
  });
  const [proven, setProven] = useState<{ count: number; answer?: Proof; done: boolean }>();
  const [failure, setFailure] = useState("");
  const stopped = useRef(false);
  const proveAll = async () => {
    stopped.current = false;
    setFailure("");
    let [next, count] = [0, 0];
    try {
      do {
        const answer = await prove(next, STEP);
        count += Number(answer.verified ?? 0);
        next = Number(answer.nextSeq ?? 0);
        const broken = Number(answer.firstBreak ?? 0) > 0;
        setProven({ count, answer, done: next === 0 || broken });
        if (broken) return;
      } while (next > 0 && !stopped.current);
    } catch (error) {
      setProven(undefined);
      setFailure(messageOf(error));
    }
  };
  return (
    <section className="card card-body stack" aria-label={t("audit.chain")}>
      <h2>{t("audit.chain")}</h2>
      <Loaded query={state} lines={2}>
        {(read) => {
          const [head, sealed] = [Number(read.headSeq ?? 0), Number(read.sealedSeq ?? 0)];
          const first = Number(read.archivedSeq ?? 0);
          const missing = Number(read.missingFacts ?? 0);
          const running = proven !== undefined && !proven.done;
          return (
            <>
              <div className="figures">
                <Figure label={t("audit.head")}>{number(head)}</Figure>
                <Figure
                  label={t("audit.sealed")}
                  note={
                    sealed < head && (
                      <span className="faint">{t("audit.unsealed", { count: head - sealed })}</span>
                    )
                  }
                >
                  {number(sealed)}
                </Figure>
                <Figure
                  label={t("audit.missing")}
                  note={
                    <span className={`tag tag-${missing > 0 ? "bad" : "good"}`}>
                      {t(missing > 0 ? "audit.gaps" : "audit.noGaps")}
                    </span>
                  }
                >
                  {number(missing)}
                </Figure>
                <Figure label={t("audit.archived")}>{number(first)}</Figure>
              </div>
              <Refused>{failure}</Refused>
              <div className="row">
                <button type="button" className="button" disabled={running} onClick={() => void proveAll()}>
                  {t("audit.prove")}
                </button>
                {running && (
                  <button type="button" className="link" onClick={() => (stopped.current = true)}>
                    {t("action.cancel")}
                  </button>
                )}
              </div>
              {proven && <Outcome proven={proven} all={Math.max(1, head - first)} />}
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

function Outcome({
  proven: { count, answer, done },
  all,
}: {
  proven: { count: number; answer?: Proof; done: boolean };
  all: number;
}) {
  const { t } = useText();
  const broken = Number(answer?.firstBreak ?? 0);
  if (broken > 0)
    return (
      <Refused>
        {t("audit.broken", { seq: broken, kind: t(`audit.break.${answer?.kind ?? "CHANGED"}`) })}
      </Refused>
    );
  return (
    <div>
      <Progress
        percent={done ? 100 : Math.min(99, Math.floor((count / all) * 100))}
        aria-label={t("audit.prove")}
      />
      <p role="status">{t(done ? "audit.whole" : "audit.proving", { count })}</p>
    </div>
  );
}
