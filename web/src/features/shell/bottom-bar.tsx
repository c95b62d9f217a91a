import {
  AppstoreOutlined,
  HomeOutlined,
  PlusOutlined,
  SearchOutlined,
  TrophyOutlined,
} from "@ant-design/icons";
import { NavLink } from "react-router";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { useCatalogue } from "@/kit/queries";

/** The phone's way around; hidden from 768 px up. */
export function BottomBar({ onMenu }: { onMenu: () => void }) {
  const { t } = useText();
  const work = useCatalogue().find("opportunities") ? "/opportunities" : "/accounts";
  return (
    <nav className="bottom" aria-label={t("menu.phone")}>
      <NavLink to="/" end>
        <HomeOutlined aria-hidden="true" />
        {t("menu.home")}
      </NavLink>
      <NavLink to={work}>
        <TrophyOutlined aria-hidden="true" />
        {t("menu.phoneWork")}
      </NavLink>
      <button
        type="button"
        className="bottom-add"
        onClick={() => send({ kind: "create", collection: "accounts" })}
      >
        <PlusOutlined aria-hidden="true" />
        <span className="visually-hidden">{t("home.newCustomer")}</span>
      </button>
      <button type="button" onClick={() => send({ kind: "search" })}>
        <SearchOutlined aria-hidden="true" />
        {t("action.search")}
      </button>
      <button type="button" onClick={onMenu}>
        <AppstoreOutlined aria-hidden="true" />
        {t("menu.all")}
      </button>
    </nav>
  );
}
