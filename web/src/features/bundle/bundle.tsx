import { useText } from "@/i18n";
import { GenericRecord } from "@/kit/generic-record";
import { useResource } from "@/kit/queries";
import { Configurator } from "./configurator";

/** A bundle with a place to try it: what may be chosen, what rules out what, what it costs. */
export function BundlePage({ name }: { name: string }) {
  const { t } = useText();
  const resource = useResource("bundles");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      more={(record) =>
        record["state"] === "ACTIVE"
          ? [{ key: "configure", label: t("bundle.configure"), content: <Configurator bundle={record} /> }]
          : []
      }
    />
  );
}
