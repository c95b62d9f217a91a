import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { Reference } from "@/kit/field-value";
import { PlainTable } from "@/kit/plain-table";
import type { Plan } from "./plan";

type Node = Schema<"sales.TerritoryPlan.Node">;

/** The territories of the cut as they lie in each other: what makes a customer one of each, and who works there. */
export function Cut({ plan }: { plan: Plan }) {
  const { t } = useText();
  const rows = nested(plan.tree ?? []);
  const before = new Map((plan.before ?? []).map((node) => [node.code, node]));
  return (
    <section className="card card-body">
      <PlainTable
        caption={t("territory.cut")}
        rows={rows}
        keyOf={({ node }, index) => node.code ?? index}
        columns={[
          {
            key: "name",
            title: t("territory.territory"),
            row: true,
            cell: ({ node, depth }) => (
              <span style={{ paddingInlineStart: depth * 20 }}>
                {node.displayName || node.code} <code>{node.code}</code>{" "}
                {node.fallback && <span className="tag tag-calm">{t("territory.fallback")}</span>}{" "}
                {before.size > 0 && !before.has(node.code) && (
                  <span className="tag tag-good">{t("territory.new")}</span>
                )}
              </span>
            ),
          },
          {
            key: "criteria",
            title: t("territory.criteria"),
            cell: ({ node }) => <Criteria node={node} />,
          },
          { key: "line", title: t("territory.productLine"), cell: ({ node }) => node.productLine || "—" },
          {
            key: "priority",
            title: t("territory.priority"),
            number: true,
            cell: ({ node }) => node.priority ?? 0,
          },
          {
            key: "members",
            title: t("territory.members"),
            cell: ({ node }) => (
              <ul>
                {(node.members ?? []).map((member) => (
                  <li key={member.employee}>
                    <Reference name={member.employee ?? ""} />{" "}
                    <span className="faint">
                      {t(member.role === "OWNER" ? "territory.owner" : "territory.member")}
                    </span>
                  </li>
                ))}
              </ul>
            ),
          },
        ]}
      />
    </section>
  );
}

function Criteria({ node }: { node: Node }) {
  const { t } = useText();
  const {
    namedAccounts = [],
    postcodes = [],
    divisions = [],
    industries = [],
    ...size
  } = node.criteria ?? {};
  const parts = [
    ...postcodes.map(({ from, to }) => t("territory.postcodes", { from, to })),
    ...divisions.map((code) => t("territory.division", { code })),
    ...industries.map((name) => t("territory.industry", { name })),
    size.minEmployees ? t("territory.atLeast", { count: size.minEmployees }) : "",
    size.maxEmployees ? t("territory.atMost", { count: size.maxEmployees }) : "",
  ].filter(Boolean);
  if (parts.length + namedAccounts.length === 0) return <span className="faint">—</span>;
  return (
    <ul className="values">
      {namedAccounts.map((account) => (
        <li key={account}>
          <Reference name={account} />
        </li>
      ))}
      {parts.map((part) => (
        <li key={part} className="tag tag-calm">
          {part}
        </li>
      ))}
    </ul>
  );
}

/** Each territory behind the one around it; what names one that is not there stands at the top. */
function nested(nodes: Node[]): { node: Node; depth: number }[] {
  const codes = new Set(nodes.map(({ code }) => code));
  const under = (parent: string, depth: number): { node: Node; depth: number }[] =>
    nodes
      .filter((node) => (codes.has(node.parent) ? (node.parent ?? "") : "") === parent)
      .flatMap((node) => [{ node, depth }, ...(depth < codes.size ? under(node.code ?? "", depth + 1) : [])]);
  return under("", 0);
}
