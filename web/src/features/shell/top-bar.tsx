import {
  BellOutlined,
  CheckSquareOutlined,
  MenuOutlined,
  MoonOutlined,
  PlusOutlined,
  QuestionCircleOutlined,
  SearchOutlined,
  SunOutlined,
} from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Dropdown } from "antd";
import { Link } from "react-router";
import { may, signOut } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { firstPageQuery, useCatalogue, useSession } from "@/kit/queries";
import { setTheme, useTheme } from "@/kit/theme";
import { MENU, screenOf } from "@/resources";
import { LanguageSwitch } from "./language-switch";

const ORDER = MENU.flatMap((group) => group.collections);
const MANY = 50;

export function TopBar({ onMenu }: { onMenu: () => void }) {
  const { t, label } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  const { theme } = useTheme();

  const creatable = catalogue.resources
    .filter(
      (resource) =>
        resource.has.create &&
        may(session, resource.permissions.create) &&
        ORDER.includes(resource.collection) &&
        !screenOf(resource.collection).hidden &&
        resource.menu !== "settings",
    )
    .toSorted((a, b) => ORDER.indexOf(a.collection) - ORDER.indexOf(b.collection))
    .slice(0, 12);

  return (
    <header className="top">
      <button type="button" className="icon-button phone-only" aria-label={t("menu.all")} onClick={onMenu}>
        <MenuOutlined />
      </button>
      <button type="button" className="top-search" onClick={() => send({ kind: "search" })}>
        <SearchOutlined aria-hidden="true" />
        {t("search.hint")}
        <kbd>Ctrl K</kbd>
      </button>
      <span className="grow" />
      <Dropdown
        trigger={["click"]}
        menu={{
          items: creatable.map((resource) => ({ key: resource.collection, label: label(resource.label) })),
          onClick: ({ key }) => send({ kind: "create", collection: key }),
        }}
      >
        <button type="button" className="button button-primary wide" aria-label={t("action.new")}>
          <PlusOutlined aria-hidden="true" />
          {t("action.new")}
        </button>
      </Dropdown>
      {catalogue.find("approvals") && (
        <Link to="/approvals" className="icon-button wide" aria-label={t("page.approvals")}>
          <CheckSquareOutlined />
        </Link>
      )}
      {catalogue.find("notifications") && <Bell />}
      <button
        type="button"
        className="icon-button wide"
        aria-label={theme === "dark" ? t("menu.light") : t("menu.dark")}
        onClick={() => setTheme(theme === "dark" ? "light" : "dark")}
      >
        {theme === "dark" ? <SunOutlined /> : <MoonOutlined />}
      </button>
      <button
        type="button"
        className="icon-button wide"
        aria-label={t("shortcuts.title")}
        onClick={() => send({ kind: "shortcuts" })}
      >
        <QuestionCircleOutlined />
      </button>
      <LanguageSwitch />
      <Dropdown
        trigger={["click"]}
        menu={{
          items: [
            { key: "name", label: session.displayName, disabled: true },
            { type: "divider" },
            { key: "theme", label: theme === "dark" ? t("menu.light") : t("menu.dark") },
            { key: "out", label: t("session.signOut") },
          ],
          onClick: ({ key }) => {
            if (key === "theme") setTheme(theme === "dark" ? "light" : "dark");
            if (key === "out") void signOut().then(() => location.assign(import.meta.env.BASE_URL));
          },
        }}
      >
        <button type="button" className="me" aria-label={t("menu.me", { name: session.displayName })}>
          <span className="avatar" aria-hidden="true">
            {session.displayName.slice(0, 1)}
          </span>
          <span className="me-name">{session.displayName}</span>
        </button>
      </Dropdown>
    </header>
  );
}

function Bell() {
  const { t } = useText();
  const unread = useQuery(firstPageQuery("notifications", { filter: "NOT readTime:*", pageSize: MANY }));
  const count = unread.data?.records.length ?? 0;
  return (
    <Link to="/notifications" className="icon-button badge" aria-label={t("notifications.unread", { count })}>
      <BellOutlined />
      {count > 0 && (
        <span className="badge-count" aria-hidden="true">
          {count < MANY ? count : `${MANY}+`}
        </span>
      )}
    </Link>
  );
}
