import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { act, get, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { useCatalogue, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { ErrorNote, Skeleton } from "@/kit/states";

interface Asked {
  label?: string;
  taken?: boolean;
  approvers?: string[];
  why?: string[];
}

/** Whom the policy would ask if this person asked for its action on that record. */
export function Preview({ policy }: { policy: RecordJson }) {
  const { t } = useText();
  const session = useSession();
  const collection = String(policy["action"] ?? "").split(".")[1] ?? "";
  const known = useCatalogue().find(collection);
  const [requester, setRequester] = useState<string | undefined>(session.employee || undefined);
  const [sample, setSample] = useState<string>();
  const asked = useQuery({
    queryKey: ["simulate", policy.name, policy.etag, requester, sample],
    enabled: Boolean(requester),
    queryFn: async () => {
      const record = sample ? await get(sample) : {};
      const answer = await act(policy.name, "simulate", { requester, record });
      return (answer["steps"] ?? []) as Asked[];
    },
  });
  const one = (value: string | string[] | undefined) => (Array.isArray(value) ? value[0] : value);
  return (
    <div className="stack">
      <p className="faint">{t("approvals.policy.previewText")}</p>
      <label htmlFor="policy-requester">{t("approvals.policy.requester")}</label>
      <ReferencePicker
        id="policy-requester"
        collection="employees"
        value={requester}
        onChange={(value) => setRequester(one(value))}
      />
      {known && (
        <>
          <label htmlFor="policy-sample">{t("approvals.policy.record")}</label>
          <ReferencePicker
            id="policy-sample"
            collection={collection}
            value={sample}
            onChange={(value) => setSample(one(value))}
          />
        </>
      )}
      {asked.isError ? (
        <ErrorNote error={asked.error} onRetry={() => void asked.refetch()} />
      ) : asked.isPending && requester ? (
        <Skeleton lines={3} />
      ) : (
        <ol className="feed">
          {(asked.data ?? []).map((step, index) => (
            <li key={index}>
              <span className={`feed-dot ${step.taken ? "" : "feed-dot-open"}`} aria-hidden="true" />
              <div>
                <p>
                  <strong>{step.label || index + 1}</strong>{" "}
                  {!step.taken ? (
                    <span className="faint">{t("approvals.policy.skipped")}</span>
                  ) : (
                    (step.approvers ?? []).length === 0 && (
                      <span className="faint">{t("approvals.policy.nobody")}</span>
                    )
                  )}
                </p>
                {(step.approvers ?? []).map((person, place) => (
                  <p key={person}>
                    <Reference name={person} /> <span className="faint">{step.why?.[place]}</span>
                  </p>
                ))}
              </div>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}
