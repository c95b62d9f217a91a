import type { ReactNode } from "react";
import type { RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { LineTables } from "@/kit/record-fields";
import { History } from "@/kit/history";
import { useResource } from "@/kit/queries";
import { RecordFrame } from "@/kit/record-frame";
import { Clauses } from "./clauses";
import { LeadSimulation, Simulation } from "./simulation";
import { Versions } from "./versions";

/** A version of the rules of a sea: its clauses as sentences, what it would have done, the versions before it. */
export const PoolRulePage = ({ name }: { name: string }) => (
  <RulePage
    collection="poolRules"
    name={name}
    clauses={(rule) => <Clauses rule={rule} />}
    simulation={(rule) => <Simulation rule={rule} />}
  />
);

/** The same of a lead pool, whose clauses are a table. */
export function LeadPoolRulePage({ name }: { name: string }) {
  const resource = useResource("leadPoolRules");
  return (
    <RulePage
      collection="leadPoolRules"
      name={name}
      clauses={(rule) => <LineTables resource={resource} record={rule} />}
      simulation={(rule) => <LeadSimulation rule={rule} />}
    />
  );
}

interface Props {
  collection: string;
  name: string;
  clauses: (rule: RecordJson) => ReactNode;
  simulation: (rule: RecordJson) => ReactNode;
}

function RulePage({ collection, name, clauses, simulation }: Props) {
  const { t } = useText();
  const resource = useResource(collection);
  return (
    <RecordFrame
      resource={resource}
      name={name}
      hide={["simulation"]}
      tabs={(record) => [
        { key: "clauses", label: t("poolRule.clauses"), content: clauses(record) },
        { key: "simulation", label: t("poolRule.simulation"), content: simulation(record) },
        { key: "versions", label: t("quote.versions"), content: <Versions rule={record} /> },
        { key: "history", label: t("history.title"), content: <History resource={resource} name={name} /> },
      ]}
    />
  );
}
