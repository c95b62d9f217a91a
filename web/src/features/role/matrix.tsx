import { Fragment, useState } from "react";
import { actionsOf, type Resource } from "@/api/catalogue";
import { update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { MENU, MENU_ALIAS } from "@/resources";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { same } from "@/kit/patch";
import { ScrollBox } from "@/kit/scroll-box";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { grants } from "./patterns";

interface Grant {
  collection?: string;
  action?: string;
  level?: string;
  departments?: string[];
  rule?: string;
}

const STANDARD = ["read", "create", "update", "delete"] as const;

/** Records down, actions across. What a rule with a star gives is ticked and stays with that rule. */
export function Matrix({ role }: { role: RecordJson }) {
  const { t, label } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const declared = useResource("roles");
  const before = (role["permissions"] as string[] | undefined) ?? [];
  const [held, setHeld] = useState<readonly string[]>(before);
  const [levels, setLevels] = useState<readonly Grant[]>(() => (role["grants"] as Grant[] | undefined) ?? []);
  const [saving, setSaving] = useState(false);
  const mayChange = may(session, declared.permissions.update);
  const dirty =
    held.length !== before.length ||
    held.some((permission) => !before.includes(permission)) ||
    !same(levels, role["grants"]);
  const grantField = declared.fields.find(({ name }) => name === "grants");
  const scopes = (grantField?.fields.find(({ name }) => name === "level")?.choices ?? []).filter(
    ({ value }) => value !== "DEPARTMENTS",
  );
  const patterns = held.filter((permission) => permission.includes("*"));

  const save = async () => {
    setSaving(true);
    try {
      await update(
        role.name,
        { permissions: [...held], ...(grantField ? { grants: levels } : {}) },
        role.etag,
      );
      tell(t("role.kept"));
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setSaving(false);
    }
  };

  const tick = (permission: string, text: string, shown: string) => {
    const byPattern = patterns.some((pattern) => grants(pattern, permission));
    return (
      <label key={permission}>
        <input
          type="checkbox"
          checked={byPattern || held.includes(permission)}
          disabled={!mayChange || byPattern}
          aria-label={text}
          onChange={(event) =>
            setHeld(
              event.target.checked ? [...held, permission] : held.filter((other) => other !== permission),
            )
          }
        />
        {shown}
      </label>
    );
  };
  /** How far the role goes with a collection where that differs from the role's own level. */
  const level = (resource: Resource, action: "READ" | "WRITE", text: string) => {
    const own = levels.find((grant) => grant.collection === resource.collection && grant.action === action);
    if (own && (own.departments?.length || own.rule)) return <span className="faint">{t("role.ruled")}</span>;
    return (
      <select
        className="matrix-level"
        aria-label={text}
        disabled={!mayChange}
        value={own?.level ?? ""}
        onChange={({ target }) =>
          setLevels([
            ...levels.filter((grant) => grant !== own),
            ...(target.value ? [{ collection: resource.collection, action, level: target.value }] : []),
          ])
        }
      >
        <option value="">{t("role.asRole")}</option>
        {scopes.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {label(choice.label)}
          </option>
        ))}
      </select>
    );
  };
  const groups = MENU.map(({ key, collections }) => ({
    key,
    resources: catalogue.resources.filter((resource) => groupOf(resource) === key),
    collections,
  }));
  const rest = catalogue.resources.filter((resource) => !groups.some(({ key }) => key === groupOf(resource)));

  return (
    <section className="card">
      <div className="card-head">
        <p className="faint grow">{t("role.text")}</p>
        {dirty && (
          <button
            type="button"
            className="button"
            onClick={() => {
              setHeld(before);
              setLevels((role["grants"] as Grant[] | undefined) ?? []);
            }}
          >
            {t("action.reset")}
          </button>
        )}
        {mayChange && (
          <button
            type="button"
            className="button button-primary"
            disabled={!dirty || saving}
            onClick={() => void save()}
          >
            {t("action.save")}
          </button>
        )}
      </div>
      {patterns.length > 0 && (
        <p className="card-body row">
          <span className="faint">{t("role.patterns")}</span>
          {patterns.map((pattern) => (
            <span key={pattern} className="chip chip-filter">
              <code>{pattern}</code>
              {mayChange && (
                <button
                  type="button"
                  aria-label={t("action.remove")}
                  onClick={() => setHeld(held.filter((other) => other !== pattern))}
                >
                  ×
                </button>
              )}
            </span>
          ))}
        </p>
      )}
      <ScrollBox className="matrix" label={t("role.matrix")}>
        <table>
          <caption className="visually-hidden">{t("role.matrix")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("role.what")}</th>
              {STANDARD.map((action) => (
                <th key={action} scope="col">
                  {t(`role.${action}`)}
                </th>
              ))}
              {scopes.length > 0 && <th scope="col">{t("role.readLevel")}</th>}
              {scopes.length > 0 && <th scope="col">{t("role.writeLevel")}</th>}
              <th scope="col">{t("role.more")}</th>
            </tr>
          </thead>
          <tbody>
            {[...groups, { key: "", resources: rest }].map(({ key, resources }) => (
              <Fragment key={key}>
                {resources.length > 0 && (
                  <tr className="matrix-area">
                    <th colSpan={STANDARD.length + 4} scope="colgroup">
                      {key ? t(`menu.${key}`) : t("role.others")}
                    </th>
                  </tr>
                )}
                {resources.map((resource) => {
                  const name = label(resource.label);
                  const taken = new Set(STANDARD.map((action) => resource.permissions[action]));
                  return (
                    <tr key={resource.collection}>
                      <th scope="row">{name}</th>
                      {STANDARD.map((action) => {
                        const permission = resource.permissions[action];
                        return (
                          <td key={action}>
                            {permission && tick(permission, `${name} · ${t(`role.${action}`)}`, "")}
                          </td>
                        );
                      })}
                      {scopes.length > 0 && (
                        <>
                          <td>{level(resource, "READ", `${name} · ${t("role.readLevel")}`)}</td>
                          <td>{level(resource, "WRITE", `${name} · ${t("role.writeLevel")}`)}</td>
                        </>
                      )}
                      <td className="matrix-more">
                        {actionsOf(resource)
                          .filter(({ permission }) => !taken.has(permission))
                          .map((action) =>
                            tick(action.permission, `${name} · ${label(action.label)}`, label(action.label)),
                          )}
                      </td>
                    </tr>
                  );
                })}
              </Fragment>
            ))}
          </tbody>
        </table>
      </ScrollBox>
    </section>
  );
}

const groupOf = (resource: Resource): string =>
  MENU.find(({ collections }) => collections.includes(resource.collection))?.key ??
  MENU_ALIAS[resource.menu] ??
  resource.menu;
