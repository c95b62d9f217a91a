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
import { creatableOf, menuOf } from "@/kit/menu";
import { useCatalogue, useSession } from "@/kit/queries";

const WORK = ["opportunities", "tickets", "orders", "invoices", "campaigns", "dealRegistrations"];

/** The phone's way around; hidden from 768 px up. */
export function BottomBar({ onMenu }: { onMenu: () => void }) {
  const { t, noun } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  // Where this person's day is: deals for sellers, tickets for agents, money for finance.
  const pages = menuOf(catalogue, session).flatMap(({ entries }) => entries);
  const work = WORK.find((key) => pages.some((entry) => entry.key === key)) ?? pages[0]?.key;
  const [first] = creatableOf(catalogue, session);
  return (
    <nav className="bottom" aria-label={t("menu.phone")}>
      <NavLink to="/" end>
        <HomeOutlined aria-hidden="true" />
        {t("menu.home")}
      </NavLink>
      {work && (
        <NavLink to={`/${work}`}>
          <TrophyOutlined aria-hidden="true" />
          {t("menu.phoneWork")}
        </NavLink>
      )}
      {first && (
        <button
          type="button"
          className="bottom-add"
          onClick={() => send({ kind: "create", collection: first.collection })}
        >
          <PlusOutlined aria-hidden="true" />
          <span className="visually-hidden">{t("form.newTitle", { what: noun(first.label) })}</span>
        </button>
      )}
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
