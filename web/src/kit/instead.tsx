import { Link } from "react-router";
import type { Json } from "@/api/client";
import type { ApiError } from "@/api/errors";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { useCatalogue, useSession } from "./queries";

interface Props {
  collection: string;
  values: Json;
  refusal: ApiError;
}

/** What one may ask for where the record is refused, such as joint work on a deal that is a partner's. */
export function Instead({ collection, values, refusal }: Props) {
  const { t, noun } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const way = screenOf(collection).instead?.[refusal.reason];
  const other = way && catalogue.find(way.collection);
  if (!way || !other?.has.create || !may(session, other.permissions.create)) return null;
  return (
    <Link className="button" to={`/${way.collection}/new`} state={way.from(values, refusal.metadata)}>
      {t("form.newTitle", { what: noun(other.label) })}
    </Link>
  );
}
