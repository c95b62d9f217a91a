import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "./field-value";
import { gotQuery } from "./got";
import { Loaded } from "./states";

type Found = Schema<"sales.LookUpCallerResponse">;

/** Whose number it is, with the deals that are open; of a stranger, the lead to make of him. */
export function Caller({ number }: { number: string }) {
  const { t } = useText();
  const query = useQuery(
    gotQuery<Found>(
      ["list", "calls", "lookUp", number],
      `/v1/calls:lookUp?number=${encodeURIComponent(number)}`,
    ),
  );
  return (
    <Loaded query={query} lines={2}>
      {({ matches = [], lead }) =>
        matches.length === 0 ? (
          <p className="row">
            <span>{t("callDesk.unknown")}</span>
            <Link className="button" to="/leads/new" state={lead}>
              {t("callDesk.newLead")}
            </Link>
          </p>
        ) : (
          <ul className="callers">
            {matches.map((match) => (
              <li key={match.record}>
                <Link to={`/${match.record}`}>{match.displayName}</Link>
                {match.account && match.account !== match.record && (
                  <Link to={`/${match.account}`}>{match.accountName}</Link>
                )}
                {!match.account && match.accountName && <span>{match.accountName}</span>}
                {(match.deals ?? []).length > 0 && (
                  <>
                    <span className="faint">{t("callDesk.deals")}</span>
                    <ul aria-label={t("callDesk.deals")}>
                      {(match.deals ?? []).map((deal) => (
                        <li key={deal.name}>
                          <Reference name={deal.name ?? ""} />
                        </li>
                      ))}
                    </ul>
                  </>
                )}
              </li>
            ))}
          </ul>
        )
      }
    </Loaded>
  );
}
