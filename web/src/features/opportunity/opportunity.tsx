import { useText } from "@/i18n";
import { GenericRecord } from "@/kit/generic-record";
import { useReads, useResource } from "@/kit/queries";
import { UpsellHints } from "@/kit/upsell-hints";
import { Outlook } from "./outlook";
import { StagePath } from "./stage-path";
import { Tips } from "./tips";

/** A deal with its path through the stages, what deals like it say of its future, and advice for its stage. */
export function OpportunityPage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("opportunities");
  const hints = useReads("upsellProposals");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      banner={(record) => <StagePath record={record} />}
      aside={(record) =>
        record["state"] === "OPEN" && (
          <>
            <Outlook name={name} />
            {hints && Boolean(record["account"]) && <UpsellHints account={String(record["account"])} />}
          </>
        )
      }
      more={(record) =>
        record["state"] === "OPEN"
          ? [{ key: "tips", label: t("opportunity.tips"), content: <Tips name={name} /> }]
          : []
      }
    />
  );
}
