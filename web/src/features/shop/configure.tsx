import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatMoney } from "@/kit/money";
import { ErrorNote } from "@/kit/states";
import { ask, visitor, type Offer } from "./store";

type Choice = Schema<"sales.Quote.Choice">;

interface Props {
  offer: Offer;
  onPut: (choices: Choice[]) => void;
}

/** Questions first, then the options: what would break a rule is grey before the click. */
export function Configure({ offer, onPut }: Props) {
  const { t, language } = useText();
  const [choices, setChoices] = useState<Choice[]>([]);
  const [answers, setAnswers] = useState<Record<number, number>>({});
  const found = useQuery({
    queryKey: ["shop-configure", offer.bundle, choices, answers],
    queryFn: () =>
      ask<Schema<"sales.ConfigureShopResponse">>("configure", {
        shopping: visitor(),
        bundle: offer.bundle,
        choices,
        answers: Object.entries(answers).map(([question, answer]) => `${question}:${answer}`),
        partial: true,
      }),
    placeholderData: (before) => before,
  });
  const known = new Map((found.data?.options ?? []).map((one) => [one.option, one]));
  const taken = found.data?.choices ?? [];
  const toggle = (key: string, group: Schema<"sales.ShopGroup">) => {
    const others = group.maximum === 1 ? (group.options ?? []).map((one) => one.key) : [key];
    const rest = taken.filter((one) => !others.includes(one.option));
    setAnswers({});
    setChoices(taken.some((one) => one.option === key) ? rest : [...rest, { option: key }]);
  };
  return (
    <div className="stack">
      {(offer.questions ?? []).map((question, place) => (
        <fieldset key={place}>
          <legend>{question.text}</legend>
          {(question.answers ?? []).map((answer, number) => (
            <label key={number} className="row">
              <input
                type="radio"
                name={`${offer.bundle}-${place}`}
                checked={answers[place] === number}
                onChange={() => {
                  setChoices([]);
                  setAnswers((before) => ({ ...before, [place]: number }));
                }}
              />
              {answer}
            </label>
          ))}
        </fieldset>
      ))}
      {(offer.groups ?? []).map((group) => (
        <fieldset key={group.key}>
          <legend>{group.displayName}</legend>
          {(group.options ?? []).map((option) => {
            const state = known.get(option.key);
            return (
              <label key={option.key} className="row">
                <input
                  type="checkbox"
                  checked={state?.chosen ?? false}
                  disabled={!state?.chosen && state?.available !== true}
                  onChange={() => toggle(option.key ?? "", group)}
                />
                {option.displayName}
                {state?.reason && <span className="faint">{state.reason}</span>}
              </label>
            );
          })}
        </fieldset>
      ))}
      {found.isError && <ErrorNote error={found.error} />}
      {(found.data?.broken ?? []).length > 0 && (
        <div role="alert" className="field-error">
          {(found.data?.broken ?? []).join(" ")}{" "}
          <button
            type="button"
            className="button button-small"
            onClick={() => {
              setAnswers({});
              setChoices(found.data?.nearest ?? []);
            }}
          >
            {t("shop.nearest")}
          </button>
        </div>
      )}
      {found.data?.line && (
        <div className="row">
          <strong>{formatMoney(found.data.line.netAmount, language)}</strong>
          <button type="button" className="button button-primary" onClick={() => onPut(taken)}>
            {t("shop.put")}
          </button>
        </div>
      )}
    </div>
  );
}
