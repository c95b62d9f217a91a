import { useQueryClient } from "@tanstack/react-query";
import { Fragment, useState } from "react";
import { actionsOf, type Resource } from "@/api/catalogue";
import { update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { MENU, MENU_ALIAS } from "@/resources";
import { useCatalogue, useResource, useSession } from "@/kit/queries";
import { ScrollBox } from "@/kit/scroll-box";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { grants } from "./patterns";

const STANDARD = ["read", "create", "update", "delete"] as const;

/** Records down, actions across. What a rule with a star gives is ticked and stays with that rule. */
export function Matrix({ role }: { role: RecordJson }) {
  const { t, label } = useText();
  const client = useQueryClient();
  const session = useSession();
  const catalogue = useCatalogue();
  const declared = useResource("roles");
  const before = (role["permissions"] as string[] | undefined) ?? [];
  const [held, setHeld] = useState<readonly string[]>(before);
  const [saving, setSaving] = useState(false);
  const mayChange = may(session, declared.permissions.update);
  const dirty = held.length !== before.length || held.some((permission) => !before.includes(permission));
  const patterns = held.filter((permission) => permission.includes("*"));

  const save = async () => {
    setSaving(true);
    try {
      await update(role.name, { permissions: [...held] }, role.etag);
      tell(t("role.kept"));
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setSaving(false);
      void client.invalidateQueries({ queryKey: ["record", role.name] });
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
          <button type="button" className="button" onClick={() => setHeld(before)}>
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
              <th scope="col">{t("role.more")}</th>
            </tr>
          </thead>
          <tbody>
            {[...groups, { key: "", resources: rest }].map(({ key, resources }) => (
              <Fragment key={key}>
                {resources.length > 0 && (
                  <tr className="matrix-area">
                    <th colSpan={STANDARD.length + 2} scope="colgroup">
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
