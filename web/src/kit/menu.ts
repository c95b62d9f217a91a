import { MENU, MENU_ALIAS, screenOf } from "@/resources";
import type { Catalogue, Resource, Text } from "@/api/catalogue";
import { isOutside, may, type Session } from "@/api/session";
import { PORTAL } from "@/portal";

export interface Entry {
  key: string;
  path: string;
  icon: string | undefined;
  /** Either a label from the declaration or a key of the catalogue of texts. */
  label: Text | undefined;
}

export interface MenuGroup {
  key: string;
  entries: Entry[];
}

const ORDER = MENU.flatMap((group) => group.collections);
const OFFERED = 12;

/** What this person may begin from anywhere, in the order of the menu. */
export function creatableOf(catalogue: Catalogue, session: Session): Resource[] {
  return catalogue.resources
    .filter(
      (resource) =>
        resource.has.create &&
        may(session, resource.permissions.create) &&
        (isOutside(session) ? PORTAL : ORDER).includes(resource.collection) &&
        !screenOf(resource.collection).hidden &&
        !screenOf(resource.collection).noForm &&
        resource.menu !== "settings",
    )
    .toSorted((a, b) => ORDER.indexOf(a.collection) - ORDER.indexOf(b.collection))
    .slice(0, OFFERED);
}

/** Groups and pages that this person may use and that exist; what is left out is absent, not grey. */
export function menuOf(catalogue: Catalogue, session: Session): MenuGroup[] {
  const visible = catalogue.resources.filter(
    (resource) =>
      resource.has.list && may(session, resource.permissions.read) && !screenOf(resource.collection).hidden,
  );
  if (isOutside(session)) return [portalOf(visible)];
  const placed = new Set(MENU.flatMap((group) => group.collections));
  return MENU.map((group) => {
    const order = new Map(group.collections.map((collection, index) => [collection, index]));
    const resources = visible
      .filter((resource) =>
        placed.has(resource.collection)
          ? order.has(resource.collection)
          : (MENU_ALIAS[resource.menu] ?? resource.menu) === group.key,
      )
      .toSorted((a, b) => (order.get(a.collection) ?? 99) - (order.get(b.collection) ?? 99));
    const pages = (group.pages ?? []).filter((page) => {
      const needed = page.needs ? catalogue.find(page.needs) : undefined;
      return !page.needs || (needed !== undefined && may(session, needed.permissions[page.to ?? "read"]));
    });
    return {
      key: group.key,
      entries: [
        ...resources.map(entryOf),
        ...pages.map((page) => ({ key: page.key, path: page.path, icon: page.icon, label: undefined })),
      ],
    };
  }).filter((group) => group.entries.length > 0);
}

/** One group without a name of its own, which ends with the company's own data. */
const portalOf = (visible: Resource[]): MenuGroup => ({
  key: "portal",
  entries: [
    ...visible
      .filter(({ collection }) => PORTAL.includes(collection))
      .toSorted((a, b) => PORTAL.indexOf(a.collection) - PORTAL.indexOf(b.collection))
      .map(entryOf),
    { key: "profile", path: "/profile", icon: "accounts", label: undefined },
  ],
});

const entryOf = (resource: Resource): Entry => ({
  key: resource.collection,
  path: `/${resource.collection}`,
  icon: screenOf(resource.collection).icon,
  label: resource.label,
});
