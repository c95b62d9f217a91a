import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { recordQuery } from "@/kit/queries";
import { SearchField } from "@/kit/search-field";
import { Loaded } from "@/kit/states";

export type Answer = Schema<"sales.Call.Answer">;
type CallScript = Schema<"sales.CallScript"> & RecordJson;

interface Props {
  name: string;
  answers: Answer[];
  onAnswer: (answers: Answer[]) => void;
}

/** What to say, step by step as the other side answers, and the answers to what is asked often. */
export function Script({ name, answers, onAnswer }: Props) {
  const script = useQuery(recordQuery(name));
  return (
    <Loaded query={script}>
      {(record: RecordJson) => <Steps script={record as CallScript} answers={answers} onAnswer={onAnswer} />}
    </Loaded>
  );
}

function Steps({ script, answers, onAnswer }: Omit<Props, "name"> & { script: CallScript }) {
  const { t } = useText();
  const nodes = script.nodes ?? [];
  const [way, setWay] = useState<string[]>([]);
  const [typed, setTyped] = useState("");
  const [asked, setAsked] = useState("");
  const node = nodes.find(({ key }) => key === way.at(-1)) ?? nodes[0];
  const known = (script.faq ?? []).filter(
    ({ question, answer }) => !asked || `${question} ${answer}`.toLowerCase().includes(asked.toLowerCase()),
  );
  const take = (value: string, next: string | undefined) => {
    const { field } = node ?? {};
    if (field && value) onAnswer([...answers.filter((answer) => answer.field !== field), { field, value }]);
    setTyped("");
    if (next) setWay([...way, next]);
  };
  return (
    <section className="card" aria-label={script.displayName}>
      <div className="card-head">
        <h2>{script.displayName}</h2>
        <span className="grow" />
        {way.length > 0 && (
          <button type="button" className="link" onClick={() => setWay(way.slice(0, -1))}>
            {t("callDesk.stepBack")}
          </button>
        )}
      </div>
      <div className="card-body stack" aria-live="polite">
        {node && (
          <>
            <p className="prose call-says">{node.text}</p>
            {node.question && <strong>{node.question}</strong>}
            {(node.branches ?? []).length > 0 ? (
              <div className="row">
                {(node.branches ?? []).map(({ answer, next }) => (
                  <button
                    key={answer}
                    type="button"
                    className="chip"
                    aria-pressed={answers.some(
                      ({ field, value }) => field === node.field && value === answer,
                    )}
                    onClick={() => take(answer ?? "", next)}
                  >
                    {answer}
                  </button>
                ))}
              </div>
            ) : (
              node.field && (
                <form
                  className="row"
                  onSubmit={(event) => {
                    event.preventDefault();
                    take(typed.trim(), nodes[nodes.indexOf(node) + 1]?.key);
                  }}
                >
                  <label className="search-field">
                    <span className="visually-hidden">{node.question || node.text}</span>
                    <input value={typed} onChange={(event) => setTyped(event.target.value)} />
                  </label>
                  <button type="submit" className="button">
                    {t("callDesk.note")}
                  </button>
                </form>
              )
            )}
          </>
        )}
        {(script.faq ?? []).length > 0 && (
          <>
            <SearchField label={t("callDesk.faq")} value={asked} onChange={setAsked} />
            {known.map(({ question, answer }) => (
              <details key={question}>
                <summary>{question}</summary>
                <p className="prose">{answer}</p>
              </details>
            ))}
          </>
        )}
      </div>
    </section>
  );
}
