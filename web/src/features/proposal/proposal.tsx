import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { FieldValue, Reference } from "@/kit/field-value";
import { GenericRecord } from "@/kit/generic-record";
import { post } from "@/kit/got";
import { save, type Paper } from "@/kit/paper";
import { useResource } from "@/kit/queries";
import { Empty, Refused } from "@/kit/states";
import { messageOf } from "@/kit/verbs";

type Proposal = Schema<"sales.Proposal"> & RecordJson;

/** A proposal as its readers will see it, and how far its writers are. */
export function ProposalPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("proposals");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      banner={(record) => <Progress proposal={record as Proposal} />}
      more={(record) => [
        {
          key: "chapters",
          label: t("proposal.chapters"),
          content: <Chapters proposal={record as Proposal} />,
        },
      ]}
    />
  );
}

/** How much of it is written and answered: what is still open keeps it from being handed in. */
function Progress({ proposal }: { proposal: Proposal }) {
  const { t } = useText();
  const chapters = proposal.sections ?? [];
  const asked = proposal.requirements ?? [];
  if (chapters.length + asked.length === 0) return null;
  return (
    <p className="row state-path" role="status">
      {chapters.length > 0 && (
        <span className="row">
          {t("proposal.written", { done: chapters.filter(({ done }) => done).length, all: chapters.length })}
          <meter min={0} max={chapters.length} value={chapters.filter(({ done }) => done).length} />
        </span>
      )}
      {asked.length > 0 && (
        <span className="row">
          {t("proposal.answered", { done: asked.filter(isAnswered).length, all: asked.length })}
          <meter min={0} max={asked.length} value={asked.filter(isAnswered).length} />
        </span>
      )}
    </p>
  );
}

const isAnswered = ({ answer, verdict }: { answer?: string; verdict?: string }) =>
  Boolean(answer) && Boolean(verdict) && verdict !== "VERDICT_UNSPECIFIED";

function Chapters({ proposal }: { proposal: Proposal }) {
  const { t, language } = useText();
  const { fields } = useResource("proposals");
  const [making, setMaking] = useState("");
  const [failure, setFailure] = useState("");
  const make = async (format: string) => {
    setMaking(format);
    setFailure("");
    try {
      save(await post<Paper>(`/v1/${proposal.name}:render`, { format, language: language.slice(0, 2) }));
    } catch (error) {
      setFailure(messageOf(error));
    } finally {
      setMaking("");
    }
  };
  const verdict = fields
    .find(({ name }) => name === "requirements")
    ?.fields.find(({ name }) => name === "verdict");
  const chapters = proposal.sections ?? [];
  const asked = proposal.requirements ?? [];
  if (chapters.length + asked.length === 0)
    return (
      <section className="card">
        <Empty title={t("proposal.none")} text={t("proposal.noneText")} />
      </section>
    );
  return (
    <div className="stack">
      <div className="row">
        {["PDF", "DOCX"].map((format) => (
          <button
            key={format}
            type="button"
            className="button"
            disabled={making !== ""}
            onClick={() => void make(format)}
          >
            {t("proposal.download", { format })}
          </button>
        ))}
      </div>
      <Refused>{failure}</Refused>
      {chapters.map((chapter, index) => (
        <article key={index} className="card">
          <div className="card-head">
            <h2>
              {index + 1}. {chapter.title}
            </h2>
            <span className="grow" />
            {chapter.owner && <Reference name={chapter.owner} />}
            <span className={`tag tag-${chapter.done ? "good" : "warn"}`}>
              {t(chapter.done ? "proposal.done" : "proposal.open")}
            </span>
          </div>
          <p className="prose card-body">{chapter.body}</p>
        </article>
      ))}
      {asked.length > 0 && (
        <section className="card">
          <div className="card-head">
            <h2>{t("proposal.matrix")}</h2>
          </div>
          <ol className="card-body matrix-list">
            {asked.map((one, index) => (
              <li key={index}>
                <p className="row">
                  <strong className="grow">{one.text}</strong>
                  {one.owner && <Reference name={one.owner} />}
                  {isAnswered(one) && verdict ? (
                    <span className={`tag tag-${VERDICT[one.verdict ?? ""] ?? "calm"}`}>
                      <FieldValue field={verdict} value={one.verdict} />
                    </span>
                  ) : (
                    <span className="tag tag-warn">{t("proposal.open")}</span>
                  )}
                </p>
                {one.answer && <p className="prose">{one.answer}</p>}
              </li>
            ))}
          </ol>
        </section>
      )}
    </div>
  );
}

const VERDICT: Record<string, string> = { COMPLIES: "good", PARTLY: "warn", NO: "bad" };
