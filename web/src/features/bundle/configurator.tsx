import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Checkbox, InputNumber, Radio } from "antd";
import { useState } from "react";
import type { RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { post } from "@/kit/got";
import { formatMoney } from "@/kit/money";
import { ErrorNote, Skeleton } from "@/kit/states";

type Bundle = Schema<"sales.Bundle">;
type Outcome = Schema<"sales.ConfigureBundleResponse">;
type Choice = Schema<"sales.Quote.Choice">;

/** Choosing by groups or by questions; what a rule forbids is grey and says why, the price follows every click. */
export function Configurator({ bundle }: { bundle: RecordJson }) {
  const { t, language } = useText();
  const { groups = [], questions = [] } = bundle as unknown as Bundle;
  const [choices, setChoices] = useState<Choice[]>();
  const [answers, setAnswers] = useState<string[]>([]);
  const [quantity, setQuantity] = useState(1);
  const body = {
    ...(choices ? { choices } : {}),
    ...(answers.some(Boolean) && !choices ? { answers } : {}),
    quantity: String(quantity),
    partial: true,
  };
  const outcome = useQuery({
    queryKey: ["record", bundle.name, "configure", body],
    queryFn: () => post<Outcome>(`/v1/${bundle.name}:configure`, body),
    placeholderData: keepPreviousData,
    retry: false,
  });
  if (outcome.isError && !outcome.data)
    return <ErrorNote error={outcome.error} onRetry={() => void outcome.refetch()} />;
  if (outcome.isPending) return <Skeleton lines={6} />;
  const now = choices ?? outcome.data?.choices ?? [];
  const stand = (key: string | undefined) => outcome.data?.options?.find(({ option }) => option === key);
  const chosen = (key: string | undefined) => now.some(({ option }) => option === key);

  const pick = (key: string, quantity: string, single: string[]) => {
    const rest = now.filter(({ option }) => option !== key && !single.includes(option ?? ""));
    setChoices(chosen(key) && single.length === 0 ? rest : [...rest, { option: key, quantity }]);
  };

  return (
    <div className="split">
      <section className="card card-body stack">
        {questions.map((question, index) => (
          <fieldset key={question.text} className="stack-item">
            <legend>{question.text}</legend>
            <Radio.Group
              aria-label={question.text ?? ""}
              value={answers[index]}
              options={(question.answers ?? []).map(({ text = "" }) => ({ value: text, label: text }))}
              onChange={(event) => {
                const next = questions.map((_, at) => answers[at] ?? "");
                next[index] = String(event.target.value);
                setAnswers(next);
                setChoices(undefined);
              }}
            />
          </fieldset>
        ))}
        {groups.map((group) => {
          const options = group.options ?? [];
          const single = group.maximum === 1 ? options.map(({ key = "" }) => key) : [];
          return (
            <fieldset key={group.key} className="stack-item">
              <legend>
                {group.displayName}{" "}
                <span className="faint">
                  {t("bundle.range", { least: group.minimum ?? 0, most: group.maximum || options.length })}
                </span>
              </legend>
              {options.map((option) => {
                const key = option.key ?? "";
                const state = stand(key);
                const shut = state?.available === false && !chosen(key);
                return (
                  <div key={key} className="row">
                    <Checkbox
                      checked={chosen(key)}
                      disabled={shut}
                      onChange={() => pick(key, option.quantity || "1", single)}
                    >
                      <Reference name={option.product ?? ""} link={false} />
                    </Checkbox>
                    {shut && state.reason && <span className="faint">{state.reason}</span>}
                    {chosen(key) && Number(option.maxQuantity ?? 1) > 1 && (
                      <InputNumber
                        aria-label={t("bundle.quantityOf", { key })}
                        min={1}
                        max={Number(option.maxQuantity)}
                        value={Number(now.find((one) => one.option === key)?.quantity ?? 1)}
                        onChange={(next) =>
                          setChoices(
                            now.map((one) =>
                              one.option === key ? { ...one, quantity: String(next ?? 1) } : one,
                            ),
                          )
                        }
                      />
                    )}
                  </div>
                );
              })}
            </fieldset>
          );
        })}
      </section>
      <section className="card card-body stack" aria-label={t("bundle.result")}>
        <div className="row">
          <label htmlFor="bundle-quantity">{t("bundle.quantity")}</label>
          <InputNumber
            id="bundle-quantity"
            min={1}
            value={quantity}
            onChange={(next) => setQuantity(next ?? 1)}
          />
        </div>
        <p role="status">
          <strong className="bundle-price">
            {formatMoney(outcome.data?.line?.netAmount, language) || "—"}
          </strong>{" "}
          <span className="faint">{t("price.net")}</span>
        </p>
        {(outcome.data?.broken ?? []).length > 0 && (
          <div className="advice advice-warn">
            <strong>{t("bundle.broken")}</strong>
            <ul>
              {(outcome.data?.broken ?? []).map((text) => (
                <li key={text}>{text}</li>
              ))}
            </ul>
            {(outcome.data?.nearest ?? []).length > 0 && (
              <button
                type="button"
                className="button"
                onClick={() => setChoices(outcome.data?.nearest ?? [])}
              >
                {t("bundle.nearest")}
              </button>
            )}
          </div>
        )}
        <button
          type="button"
          className="button"
          onClick={() => {
            setChoices(undefined);
            setAnswers([]);
          }}
        >
          {t("bundle.reset")}
        </button>
      </section>
    </div>
  );
}
